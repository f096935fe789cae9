"""One running server for these tests; each brings people and rooms of its own."""

from __future__ import annotations

from tests.support.shared_server import server

__all__ = ["server"]

"""One running server for the stories of this folder; each story brings people and rooms of its own."""

from __future__ import annotations

from tests.support.shared_server import server

__all__ = ["server"]

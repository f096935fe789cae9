"""A whole server for the tests of this folder."""

from __future__ import annotations

from tests.support.server_fixtures import server

__all__ = ["server"]

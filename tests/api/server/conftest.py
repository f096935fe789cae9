"""A whole server for the tests of this folder."""

from __future__ import annotations

from tests.support.server_fixtures import log_backend, server

__all__ = ["log_backend", "server"]

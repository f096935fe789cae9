"""A whole server for the tests of this folder."""

from __future__ import annotations

import pytest

from tests.support.server import LiveServer, User
from tests.support.server_fixtures import log_backend, server

__all__ = ["log_backend", "server"]


@pytest.fixture(scope="module")
def alice_in_room(server: LiveServer) -> tuple[User, str]:
    """alice, and the id of her only room, for requests that are refused: nothing is left behind for the next test."""
    alice = server.user("alice")
    return alice, alice.create_room()

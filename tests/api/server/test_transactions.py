"""PUT /_matrix/federation/v1/send, end to end: from another server's transaction to what our users see."""

from __future__ import annotations

import pytest

from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer, bodies


@pytest.mark.parametrize("version", ["1", "3", "6", "10", "11", "12"])
def test_what_another_server_says_is_heard(server: LiveServer, version: str) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat", room_version=version)
    bob = remote.user("bob")
    remote.join(room_id, bob)
    events = remote.chain(room_id, bob, ["one", "two", "three"])
    remote.push(*events)
    assert bodies(alice.messages(room_id)["chunk"])[:3] == ["three", "two", "one"]

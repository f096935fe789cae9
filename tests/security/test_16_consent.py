"""Row 16: nobody but a user's own server makes that user join, leave or knock."""

from __future__ import annotations

import pytest

from tests.support import handing_in
from tests.support.remote_server import RemoteServer, verdict
from tests.support.server import SERVER_NAME, LiveServer, quoted
from tests.support.server_fixtures import server

__all__ = ["server"]


@pytest.mark.parametrize("membership", ["join", "leave", "knock"])
@pytest.mark.parametrize("signed_as", ["us", "itself"])
def test_a_member_event_of_our_user_from_another_server(server: LiveServer, membership: str, signed_as: str) -> None:
    alice, bob, remote = server.user("alice"), server.user("bob"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    if membership == "leave":
        bob.join(room_id)
    handing_in.join(remote, room_id, remote.user("mallory"))
    # Its own key, under our name or under its own.
    name = SERVER_NAME if signed_as == "us" else remote.name
    event = remote.build(room_id, bob.id, "m.room.member", {"membership": membership}, bob.id, server_name=name)
    version = "v1" if membership == "knock" else "v2"
    path = f"/_matrix/federation/{version}/send_{membership}/{quoted(room_id)}/{quoted(event.event_id)}"
    assert remote.call("PUT", path, event.pdu)[0] == 400
    status, answer = remote.send([event.pdu])
    assert status == 200
    assert "error" in answer["pdus"][event.event_id]
    assert verdict(server, room_id, event.event_id) is None
    joined = alice.do("GET", f"/rooms/{quoted(room_id)}/joined_members")["joined"]
    assert (bob.id in joined) is (membership == "leave")


@pytest.mark.parametrize("kind", ["join", "leave", "knock"])
def test_no_template_for_a_user_of_somebody_else(server: LiveServer, kind: str) -> None:
    alice, remote, other = server.user("alice"), RemoteServer(server), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    for user_id in (alice.id, other.user(), f"@x:{remote.name}.evil.example"):
        status, answer = handing_in.make(remote, kind, room_id, user_id)
        assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")

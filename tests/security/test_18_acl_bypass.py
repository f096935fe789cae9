"""Row 18: an access control list holds however a server's name is written, and on every path into a room."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import handing_in
from tests.support.handing_in import make, send, signed
from tests.support.logged import facts_of_room
from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer, quoted
from tests.support.server_fixtures import server

__all__ = ["server"]

SPELLINGS = [
    ("evil.example", {"allow": ["*"], "deny": ["EVIL.example"]}),
    ("Evil.Example", {"allow": ["*"], "deny": ["evil.example"]}),
    ("evil.example:8448", {"allow": ["*"], "deny": ["evil.example"]}),
    ("a.b.evil.example", {"allow": ["*"], "deny": ["*.evil.example"]}),
    ("192.0.2.7", {"allow": ["*"], "allow_ip_literals": False}),
    ("192.0.2.8:443", {"allow": ["*"], "allow_ip_literals": False}),
    ("[2001:db8::1]", {"allow": ["*"], "allow_ip_literals": False}),
    ("[2001:db8::2]:443", {"allow": ["*"], "allow_ip_literals": False}),
    ("not-named.example", {"allow": ["test"]}),
]


@pytest.mark.parametrize(("name", "acl"), SPELLINGS)
def test_every_path_of_a_membership(server: LiveServer, name: str, acl: dict[str, Any]) -> None:
    alice, carol, remote = server.user("alice"), server.user("carol"), RemoteServer(server, name)
    room_id = alice.create_room(preset="public_chat")
    bob, dan = remote.user("bob"), remote.user("dan")
    handing_in.join(remote, room_id, bob)
    _, leaving = make(remote, "leave", room_id, bob)
    _, joining = make(remote, "join", room_id, dan)
    leave, join = signed(remote, leaving), signed(remote, joining)
    knock = signed(remote, joining, content={"membership": "knock"})
    invite = remote.build(room_id, bob, "m.room.member", {"membership": "invite"}, carol.id)
    alice.set_state(room_id, "m.room.server_acl", acl)
    before = len(facts_of_room(server, room_id))
    path = f"/_matrix/federation/v2/invite/{quoted(room_id)}/{quoted(invite.event_id)}"
    answers = {
        "make_join": make(remote, "join", room_id, dan),
        "make_leave": make(remote, "leave", room_id, bob),
        "make_knock": make(remote, "knock", room_id, dan),
        "send_join": send(remote, "join", join),
        "send_join v1": send(remote, "join", join, version="v1"),
        "send_leave": send(remote, "leave", leave),
        "send_leave v1": send(remote, "leave", leave, version="v1"),
        "send_knock": send(remote, "knock", knock),
        "invite": remote.call("PUT", path, {"room_version": "12", "event": invite.pdu}),
        "backfill": remote.call("GET", f"/_matrix/federation/v1/backfill/{quoted(room_id)}?limit=5&v={quoted('$x')}"),
        "state_ids": remote.call("GET", f"/_matrix/federation/v1/state_ids/{quoted(room_id)}?event_id={quoted('$x')}"),
    }
    for endpoint, (status, answer) in answers.items():
        assert (endpoint, status, answer["errcode"]) == (endpoint, 403, "M_FORBIDDEN")
    chat = remote.build(room_id, bob, "m.room.message", {"body": "x"})
    status, answer = remote.send([chat.pdu])
    assert status == 200
    assert "error" in answer["pdus"][chat.event_id]
    assert len(facts_of_room(server, room_id)) == before, "nothing of it is logged"


def test_a_list_of_100_thousand_characters_of_globs(server: LiveServer) -> None:
    # As many as an event holds; it is read once, and what it says of a server is kept.
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    globs = [f"*{number:x}?*?z" for number in range(5_500)]
    alice.set_state(room_id, "m.room.server_acl", {"allow": ["*"], "deny": globs})
    for _ in range(20):
        assert make(remote, "join", room_id, remote.user())[0] == 200

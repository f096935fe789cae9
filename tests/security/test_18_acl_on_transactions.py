"""Row 18: who the room's ACL denies is not heard in it, by PDU or EDU, however its name is written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.remote_server import RemoteServer, verdict
from tests.support.server import LiveServer
from tests.support.server_fixtures import server
from tests.support.waiting import until

__all__ = ["server"]


@pytest.mark.parametrize(
    ("name", "acl"),
    [
        ("evil1.example", {"allow": ["*"], "deny": ["evil1.example"]}),
        ("evil2.example:8448", {"allow": ["*"], "deny": ["evil2.example"]}),
        ("EVIL3.example", {"allow": ["*"], "deny": ["evil3.EXAMPLE"]}),
        ("sub.evil4.example", {"allow": ["*"], "deny": ["*.evil4.example"]}),
        ("evil5.example", {"allow": ["test"]}),
        ("evil6.example", {"deny": []}),
        ("10.1.2.3:80", {"allow": ["*"], "allow_ip_literals": False}),
        ("[2001:db8::7]:80", {"allow": ["*"], "allow_ip_literals": False}),
        ("evil7.example", {"allow": ["*"], "deny": ["*a*a*a*a*b"] * 4_000 + ["evil?.example"]}),
    ],
)
def test_who_is_denied_is_not_heard(server: LiveServer, name: str, acl: dict[str, Any]) -> None:
    alice, evil, good = server.user("alice"), RemoteServer(server, name), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    mallory, bob = evil.user("mallory"), good.user("bob")
    evil.join(room_id, mallory)
    good.join(room_id, bob)
    alice.set_state(room_id, "m.room.server_acl", {**acl, "allow": [*acl.get("allow", []), good.name]})
    [event] = evil.chain(room_id, mallory, ["denied"])
    read = {"m.read": {mallory: {"event_ids": [event.event_id], "data": {"ts": 1}}}}
    typing = {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": mallory, "typing": True}}
    status, answer = evil.send([event.pdu], [typing, {"edu_type": "m.receipt", "content": {room_id: read}}])
    assert status == 200
    assert "ACL" in answer["pdus"][event.event_id]["error"]
    assert verdict(server, room_id, event.event_id) is None
    # Who is allowed is heard, and only he.
    [heard] = good.chain(room_id, bob, ["allowed"])
    good.push(heard)
    read = {"m.read": {bob: {"event_ids": [heard.event_id], "data": {"ts": 1}}}}
    also = {"edu_type": "m.typing", "content": {"room_id": room_id, "user_id": bob, "typing": True}}
    assert good.send(edus=[also, {"edu_type": "m.receipt", "content": {room_id: read}}])[0] == 200

    def ephemeral() -> set[str]:
        events = alice.sync()["rooms"]["join"][room_id]["ephemeral"]["events"]
        return {str(event["content"]) for event in events}

    until(lambda: len(ephemeral()) == 2, "bob's notices")
    assert not any(mallory in text for text in ephemeral())

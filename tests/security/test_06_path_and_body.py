"""Row 6: what the path says and what is signed are one, on every endpoint that takes member events."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.events import Event
from tests.support import handing_in
from tests.support.handing_in import make, signed
from tests.support.logged import facts_of_room
from tests.support.remote_server import RemoteServer
from tests.support.room_elsewhere import RoomElsewhere
from tests.support.server import LiveServer, quoted
from tests.support.server_fixtures import server

__all__ = ["server"]

FEDERATION = "/_matrix/federation"
ENDPOINTS = [
    ("v2", "join"),
    ("v1", "join"),
    ("v2", "leave"),
    ("v1", "leave"),
    ("v1", "knock"),
]


class Case:
    """A member event of each kind that the room would take, and its server."""

    def __init__(self, server: LiveServer, kind: str) -> None:
        self.server, self.kind, self.remote = server, kind, RemoteServer(server)
        alice = server.user("alice")
        rule = "knock" if kind == "knock" else "public"
        rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": rule}}
        self.room_id = alice.create_room(initial_state=[rules])
        self.other_room = alice.create_room(initial_state=[rules])
        self.bob = self.remote.user("bob")
        if kind == "leave":
            handing_in.join(self.remote, self.room_id, self.bob)
        status, self.template = make(self.remote, kind, self.room_id, self.bob)
        assert status == 200, self.template
        self.event = signed(self.remote, self.template)

    def put(
        self, version: str, event: Event, *, room_id: str | None = None, event_id: str | None = None
    ) -> tuple[int, Any]:
        room_id, event_id = room_id or event.room_id, event_id or event.event_id
        path = f"{FEDERATION}/{version}/send_{self.kind}/{quoted(room_id)}/{quoted(event_id)}"
        return self.remote.call("PUT", path, event.pdu)

    def wrong(self, version: str) -> dict[str, tuple[int, Any]]:
        """What each request that does not fit itself is answered."""
        remote, template, content = self.remote, self.template, self.template["event"]["content"]
        dan, stranger = remote.user("dan"), RemoteServer(self.server).user("stranger")
        changed: dict[str, dict[str, Any]] = {
            "another type": {"type": "m.room.topic"},
            "another membership": {"content": {**content, "membership": "invite"}},
            "no membership": {"content": {}},
            "another state key": {"state_key": dan},
            "a sender of another server": {"sender": stranger, "state_key": stranger},
            "another room in the body": {"room_id": self.other_room},
        }
        answers = {}
        for name, changes in changed.items():
            answers[name] = self.put(version, signed(remote, template, **changes), room_id=self.room_id)
        answers["another room in the path"] = self.put(version, self.event, room_id=self.other_room)
        answers["another event id in the path"] = self.put(version, self.event, event_id="$" + "A" * 43)
        return answers


@pytest.mark.parametrize(("version", "kind"), ENDPOINTS)
def test_member_events_of_other_servers(server: LiveServer, version: str, kind: str) -> None:
    case = Case(server, kind)
    before = [len(facts_of_room(server, room_id)) for room_id in (case.room_id, case.other_room)]
    for name, (status, answer) in case.wrong(version).items():
        assert (name, status, answer["errcode"]) == (name, 400, "M_INVALID_PARAM")
    after = [len(facts_of_room(server, room_id)) for room_id in (case.room_id, case.other_room)]
    assert after == before, "nothing is logged"
    assert case.put(version, case.event)[0] == 200, "what fits is taken"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_invites(server: LiveServer, version: str) -> None:
    bob = server.user("bob")
    remote = RemoteServer(server)
    room_version = "1" if version == "v1" else "10"
    room, other = RoomElsewhere(remote, room_version), RoomElsewhere(remote, room_version)
    event = room.invitation(bob.id)

    def put(invite: Event, room_id: str | None = None, event_id: str | None = None) -> tuple[int, Any]:
        room_id, event_id = room_id or room.room_id, event_id or invite.event_id
        path = f"{FEDERATION}/{version}/invite/{quoted(room_id)}/{quoted(event_id)}"
        body: dict[str, Any] = {"event": invite.pdu, "room_version": room_version}
        return remote.call("PUT", path, invite.pdu if version == "v1" else body)

    member = "m.room.member"
    answers = {
        "another room in the body": put(other.invitation(bob.id)),
        "another room in the path": put(event, other.room_id),
        "another event id": put(event, event_id=room.invitation(bob.id, reason="x").event_id),
        "another type": put(room.build("m.room.topic", {"membership": "invite"}, bob.id)),
        "a join": put(room.build(member, {"membership": "join"}, bob.id)),
        "a ban": put(room.build(member, {"membership": "ban"}, bob.id)),
        "no state key": put(room.build(member, {"membership": "invite"})),
        "of another server": put(RoomElsewhere(RemoteServer(server), room_version).invitation(bob.id)),
        "for a user elsewhere": put(room.invitation(remote.user())),
    }
    for name, (status, answer) in answers.items():
        assert (name, status, answer["errcode"]) == (name, 400, "M_INVALID_PARAM")
        assert "event" not in answer, "our signature is on nothing of it"
    assert facts_of_room(server, room.room_id) == facts_of_room(server, other.room_id) == []
    assert put(event)[0] == 200

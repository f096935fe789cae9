"""Row 24: what comes with an invite can neither break a sync nor fill the log."""

from __future__ import annotations

from typing import Any

import pytest

from annals.ingest.resident.room_state import ENTRIES_MAX, STATE_BYTES_MAX
from annals.matrix.canonical_json import loads
from annals.schemas.facts.rooms import MembershipReceived
from tests.support.logged import facts_of_room
from tests.support.remote_server import RemoteServer
from tests.support.room_elsewhere import RoomElsewhere
from tests.support.server import LiveServer, User
from tests.support.server_fixtures import server

__all__ = ["server"]

GOOD = {"type": "m.room.name", "state_key": "", "sender": "@a:b.example", "content": {"name": "Good"}}
GARBAGE: list[Any] = [
    None,
    1,
    "m.room.name",
    [],
    [GOOD],
    {},
    {"type": "m.room.topic"},
    {**GOOD, "type": 1},
    {**GOOD, "type": "t" * 256},
    {**GOOD, "type": "a", "state_key": None},
    {**GOOD, "type": "b", "state_key": "k" * 256},
    {**GOOD, "type": "c", "sender": "nobody"},
    {**GOOD, "type": "d", "sender": {"a": 1}},
    {**GOOD, "type": "e", "content": "text"},
    {**GOOD, "type": "f", "content": [1]},
    {**GOOD, "type": "g", "content": {"number": 2**60}},
    {**GOOD, "type": "h", "room_id": "!another:room"},
]


def kept(server: LiveServer, room: RoomElsewhere) -> list[dict[str, Any]]:
    """What is on the log to show the room by."""
    [fact] = facts_of_room(server, room.room_id)
    assert isinstance(fact, MembershipReceived)
    assert isinstance(fact.room_state, bytes)
    assert len(fact.room_state) <= STATE_BYTES_MAX + 2
    return list(loads(fact.room_state))


def invite(server: LiveServer, room: RoomElsewhere, user: User, state: Any) -> tuple[int, Any]:
    return room.hand_in(room.invitation(user.id), invite_room_state=state)


def test_garbage_among_the_state_is_left_out(server: LiveServer) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server), "10")
    assert invite(server, room, bob, [*GARBAGE, {**GOOD, "unsigned": {"x": 1}, "extra": True}, GOOD])[0] == 200
    assert kept(server, room) == [GOOD]
    assert bob.call("GET", "/sync")[0] == 200


@pytest.mark.parametrize("state", [None, 1, "x", {}, {"0": GOOD}])
def test_state_that_is_no_list(server: LiveServer, state: Any) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server), "10")
    assert invite(server, room, bob, state)[0] == 200
    assert kept(server, room) == []
    assert bob.call("GET", "/sync")[0] == 200


def test_what_is_kept_is_bounded(server: LiveServer) -> None:
    bob, remote = server.user("bob"), RemoteServer(server)
    room = RoomElsewhere(remote, "10")
    large = [{**GOOD, "type": f"org.large.{number}", "content": {"x": "x" * 9_000}} for number in range(20)]
    assert invite(server, room, bob, [*large, room.state["m.room.create", ""].pdu])[0] == 200
    types = [event["type"] for event in kept(server, room)]
    assert types == ["m.room.create", "org.large.0", "org.large.1", "org.large.2"]
    room = RoomElsewhere(remote, "10")
    many = [{**GOOD, "type": f"org.many.{number}"} for number in range(10_000)]
    assert invite(server, room, bob, many)[0] == 200
    assert len(kept(server, room)) == ENTRIES_MAX


@pytest.mark.parametrize("entry", [entry for entry in GARBAGE if isinstance(entry, dict)] + [GOOD])
def test_from_version_12_on_each_entry_is_an_event(server: LiveServer, entry: dict[str, Any]) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server), "12")
    status, answer = invite(server, room, bob, [*room.shown(), entry])
    assert (status, answer["errcode"]) == (400, "M_INVALID_PARAM")
    assert facts_of_room(server, room.room_id) == []


def test_from_version_12_on_the_room_is_shown_by_its_own_events(server: LiveServer) -> None:
    bob, remote = server.user("bob"), RemoteServer(server)
    room, other = RoomElsewhere(remote, "12"), RoomElsewhere(remote, "12", "Another")
    create, name = room.state["m.room.create", ""].pdu, room.state["m.room.name", ""].pdu
    cases: dict[str, tuple[Any, str]] = {
        "nothing": (None, "M_MISSING_PARAM"),
        "no create": ([name], "M_MISSING_PARAM"),
        "empty": ([], "M_MISSING_PARAM"),
        "another room's name": ([create, other.state["m.room.name", ""].pdu], "M_INVALID_PARAM"),
        "another room's create": ([other.state["m.room.create", ""].pdu], "M_INVALID_PARAM"),
        "not signed": ([create, {**name, "signatures": {}}], "M_INVALID_PARAM"),
        "too many": ([create] * (ENTRIES_MAX + 1), "M_INVALID_PARAM"),
        "no list": ({}, "M_INVALID_PARAM"),
    }
    for case, (state, errcode) in cases.items():
        status, answer = invite(server, room, bob, state)
        assert (case, status, answer["errcode"]) == (case, 400, errcode)
    assert facts_of_room(server, room.room_id) == []
    assert invite(server, room, bob, room.shown())[0] == 200


def test_a_create_event_whose_server_is_gone_is_known_by_its_hash(server: LiveServer) -> None:
    bob, gone, remote = server.user("bob"), RemoteServer(server, has_keys=False), RemoteServer(server)
    room = RoomElsewhere(gone, "12")
    inviter = remote.user("inviter")
    event = room.build(
        "m.room.member", {"membership": "invite"}, bob.id, sender=inviter, server_name=remote.name, key=remote.key
    )
    room.remote = remote
    status, answer = room.hand_in(event)
    assert status == 200, answer
    assert [entry["type"] for entry in kept(server, room)] == ["m.room.create"], "nobody vouches for the rest"


def test_what_we_show_others_a_room_by_is_bounded_too(server: LiveServer) -> None:
    alice = server.user("alice")
    room_id = alice.create_room(preset="public_chat", name="Room")
    for event_type in ("m.room.topic", "m.room.avatar", "m.room.canonical_alias"):
        alice.set_state(room_id, event_type, {"x": "x" * 40_000})
    answers = server.services.room_answers
    shown = server.on_loop(answers.shown_state(room_id))
    types = [pdu["type"] for pdu in shown]
    assert types[:3] == ["m.room.create", "m.room.join_rules", "m.room.name"]
    assert len(types) == 4

"""Users of other servers invite ours: into rooms that we know nothing of, and into rooms that we are in."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.canonical_json import loads
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import verify_event
from annals.schemas.facts.rooms import MembershipReceived
from tests.support import handing_in
from tests.support.logged import facts_of_room
from tests.support.remote_server import RemoteServer
from tests.support.room_elsewhere import RoomElsewhere
from tests.support.server import SERVER_NAME, LiveServer, quoted
from tests.support.server_fixtures import on_both_logs
from tests.support.soak import versions


def shown(fact: MembershipReceived) -> dict[str, Any]:
    assert isinstance(fact.room_state, bytes)
    return {event["type"]: event for event in loads(fact.room_state)}


@pytest.mark.parametrize("version", versions("1", "3", "10", "12"))
def test_an_invite_into_a_room_elsewhere(server: LiveServer, version: str) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server), version)
    event = room.invitation(bob.id)
    status, answer = room.hand_in(event)
    assert status == 200, answer
    pdu = answer["event"]
    assert {**pdu, "signatures": {}} == {**event.pdu, "signatures": {}}
    key = server.house.signer.key.verify_key
    verify_event(pdu, ROOM_VERSIONS[version], SERVER_NAME, key)
    assert pdu["signatures"][room.remote.name] == event.pdu["signatures"][room.remote.name]
    [fact] = facts_of_room(server, room.room_id)
    assert isinstance(fact, MembershipReceived)
    assert (fact.event_id, fact.room_version, fact.via) == (event.event_id, version, "invite")
    assert shown(fact)["m.room.name"] == {
        "type": "m.room.name",
        "state_key": "",
        "sender": room.creator,
        "content": {"name": "Elsewhere"},
    }
    assert shown(fact).keys() == {"m.room.create", "m.room.join_rules", "m.room.name"}


def test_the_oldest_path(server: LiveServer) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server), "1")
    event = room.invitation(bob.id)
    status, answer = room.hand_in(event, "v1")
    assert (status, answer[0]) == (200, 200)
    assert answer[1]["event"]["signatures"].keys() == {room.remote.name, SERVER_NAME}
    [fact] = facts_of_room(server, room.room_id)
    assert isinstance(fact, MembershipReceived)
    assert "m.room.name" in shown(fact)


@on_both_logs
def test_an_invite_into_a_room_that_we_are_in(server: LiveServer) -> None:
    alice, bob, remote = server.user("alice"), server.user("bob"), RemoteServer(server)
    room_id = alice.create_room(preset="private_chat")
    carol = remote.user("carol")
    alice.set_state(room_id, "m.room.join_rules", {"join_rule": "public"})
    handing_in.join(remote, room_id, carol)
    event = remote.build(room_id, carol, "m.room.member", {"membership": "invite"}, bob.id)
    path = f"/_matrix/federation/v2/invite/{quoted(room_id)}/{quoted(event.event_id)}"
    status, answer = remote.call("PUT", path, {"room_version": "12", "event": event.pdu})
    assert status == 200, answer
    assert list(bob.sync()["rooms"]["invite"]) == [room_id]
    count = len(facts_of_room(server, room_id))
    assert remote.call("PUT", path, {"room_version": "12", "event": event.pdu}) == (200, answer)
    assert len(facts_of_room(server, room_id)) == count, "a repeat is not logged again"
    # One that the room forbids.
    dan = server.user("dan")
    alice.set_state(room_id, "m.room.member", {"membership": "ban"}, dan.id)
    event = remote.build(room_id, carol, "m.room.member", {"membership": "invite"}, dan.id)
    path = f"/_matrix/federation/v2/invite/{quoted(room_id)}/{quoted(event.event_id)}"
    assert remote.call("PUT", path, {"room_version": "12", "event": event.pdu})[0] == 403
    alice.set_state(room_id, "m.room.server_acl", {"allow": ["test"]})
    event = remote.build(room_id, carol, "m.room.member", {"membership": "invite"}, server.user("eve").id)
    path = f"/_matrix/federation/v2/invite/{quoted(room_id)}/{quoted(event.event_id)}"
    status, answer = remote.call("PUT", path, {"room_version": "12", "event": event.pdu})
    assert (status, "access control" in answer["error"]) == (403, True)


def test_invites_that_are_not_taken(server: LiveServer) -> None:
    remote = RemoteServer(server)
    room, other = RoomElsewhere(remote), RoomElsewhere(RemoteServer(server))
    bob, closed = server.user("bob"), server.user("closed")
    closed.do(
        "PUT",
        f"/user/{quoted(closed.id)}/account_data/m.invite_permission_config",
        {"default_action": "block"},
    )
    good = room.invitation(bob.id)
    cases: list[tuple[str, tuple[int, Any], int, str]] = [
        ("unknown version", room.hand_in(good, room_version="99"), 400, "M_INCOMPATIBLE_ROOM_VERSION"),
        ("no version", room.hand_in(good, room_version=None), 400, "M_MISSING_PARAM"),
        ("no event", room.hand_in(good, event=[]), 400, "M_BAD_JSON"),
        ("nobody", room.hand_in(room.invitation("@nobody:test")), 403, "M_FORBIDDEN"),
        ("blocked", room.hand_in(room.invitation(closed.id)), 403, "M_INVITE_BLOCKED"),
        ("a user elsewhere", room.hand_in(room.invitation(remote.user())), 400, "M_INVALID_PARAM"),
        ("another version's event", room.hand_in(good, room_version="1"), 400, "M_INVALID_PARAM"),
        ("changed", room.hand_in(good, event={**good.pdu, "origin_server_ts": 1}), 400, "M_INVALID_PARAM"),
        ("unsigned", room.hand_in(good, event={**good.pdu, "signatures": {}}), 400, "M_INVALID_PARAM"),
        ("another sender", room.hand_in(other.invitation(bob.id)), 400, "M_INVALID_PARAM"),
    ]
    for name, (status, answer), wanted, errcode in cases:
        assert (name, status, answer["errcode"]) == (name, wanted, errcode)
        assert "event" not in answer
    assert facts_of_room(server, room.room_id) == facts_of_room(server, other.room_id) == []
    assert room.hand_in(good)[0] == 200

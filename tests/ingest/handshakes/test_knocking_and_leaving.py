"""Knocks, and ways out of rooms that we have no state of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annals.ingest.handshakes.previews import BYTES_MAX
from annals.matrix.events import Event
from annals.matrix.hashing import reference_hash
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import sign_event
from annals.schemas.facts.envelope import Sealable
from annals.schemas.facts.rooms import HandshakeFailed, MembershipReceived, PduFact
from tests.support.handshake_desk import KEY, US, USER, Us, play
from tests.support.scripted_peer import Authority
from tests.support.scripted_room import MEMBER, RoomPeer, ScriptedRoom

KNOCK = {"join_rule": "knock"}


def _shown(room_state: Sealable) -> list[dict[str, Any]]:
    assert isinstance(room_state, bytes)
    shown: list[dict[str, Any]] = json.loads(room_state)
    return shown


@pytest.mark.parametrize("version", ["7", "10", "12"])
def test_a_knock_is_a_membership_with_what_the_room_is_shown_by(
    authority: Authority, tmp_path: Path, version: str
) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room(version, join_rule=KNOCK)
        handshake = us.start("knock", room.room_id, "dead.invalid", peer.name, reason="please")
        assert await us.ended(handshake) == "completed"
        [fact] = us.log.all(MembershipReceived)
        assert (fact.origin, fact.handshake_id, fact.event_id) == (peer.name, handshake, room.sent[0].event_id)
        assert room.sent[0].content == {"membership": "knock", "reason": "please"}
        assert {item["type"] for item in _shown(fact.room_state)} == {"m.room.create", "m.room.join_rules"}

    play(authority, tmp_path, scenario)


def test_of_what_a_room_is_shown_by_only_the_signed_is_kept(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10", join_rule=KNOCK)
        foreign = ScriptedRoom("10", peer.name, peer.key, started_ms=1_600_000_000_000).state["m.room.join_rules", ""]
        create = room.state["m.room.create", ""].pdu
        stripped = {"type": "m.room.name", "state_key": "", "sender": room.creator, "content": {"name": "x"}}
        large = room.build("m.room.topic", room.creator, "", {"topic": "x" * BYTES_MAX}).pdu
        bad = [
            {**create, "content": {**create["content"], "creator": "@eve:elsewhere"}, "signatures": {}},
            foreign.pdu,
            room.build("m.room.message", room.creator, None, {"body": "x"}).pdu,
            {**stripped, "sender": 5},
            large,
            7,
        ]
        told = [*bad, {**stripped, "room_id": "!other:y", "unsigned": {}}, create]
        room.answer_lie = lambda answer: {"knock_room_state": told}
        assert await us.ended(us.start("knock", room.room_id, peer.name)) == "completed"
        [fact] = us.log.all(MembershipReceived)
        assert _shown(fact.room_state) == [create, stripped]

    play(authority, tmp_path, scenario)


def test_a_knock_that_is_refused_or_not_to_be_had_fails(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        old = peer.make_room("6")
        failed = await us.failure(us.start("knock", old.room_id, peer.name))
        assert "no knocks in room version 6" in failed.reason
        room = peer.make_room("10", join_rule=KNOCK)
        peer.refuses["send_knock"] = (403, {"errcode": "M_FORBIDDEN", "error": "not today"})
        failed = await us.failure(us.start("knock", room.room_id, peer.name))
        assert (failed.status, failed.errcode, failed.reason) == (403, "M_FORBIDDEN", "not today")
        peer.refuses.clear()
        room.answer_lie = lambda answer: [answer]
        assert "not an object" in (await us.failure(us.start("knock", room.room_id, peer.name))).reason
        assert not us.log.all(PduFact)

    play(authority, tmp_path, scenario)


@pytest.mark.parametrize("has_v2", [True, False])
def test_an_invite_is_rejected_by_way_of_its_server(authority: Authority, tmp_path: Path, has_v2: bool) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        peer.has_v2 = has_v2
        room = peer.make_room("10")
        room.take(_invite(room))
        handshake = us.start("leave", room.room_id, peer.name, reason="no")
        assert await us.ended(handshake) == "completed"
        [fact] = us.log.all(MembershipReceived)
        assert (fact.origin, fact.event_id, fact.handshake_id) == (peer.name, room.sent[0].event_id, handshake)
        assert room.sent[0].content == {"membership": "leave", "reason": "no"}

    play(authority, tmp_path, scenario)


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_an_invite_is_rejected_when_its_server_is_gone(authority: Authority, tmp_path: Path, version: str) -> None:
    async def scenario(us: Us, peer: RoomPeer, other: RoomPeer) -> None:
        room = peer.make_room(version)
        invite = _invite(room)
        us.log.invites[room.room_id, USER] = invite
        room.template_lie = lambda answer: {**answer, "event": {**answer["event"], "type": "m.room.topic"}}
        handshake = us.start("leave", room.room_id, "dead.invalid", peer.name, other.name)
        assert await us.ended(handshake) == "completed"
        [fact] = us.log.all(MembershipReceived)
        assert fact.origin == US
        skeleton = json.loads(fact.skeleton)
        assert (skeleton["sender"], skeleton["state_key"], skeleton["content"]["membership"]) == (USER, USER, "leave")
        cited = [reference if isinstance(reference, str) else reference[0] for reference in skeleton["auth_events"]]
        assert cited == [*invite.auth_events, invite.event_id]
        assert not us.log.all(HandshakeFailed)
        if version == "1":
            assert skeleton["prev_events"] == [
                [invite.event_id, {"sha256": reference_hash(invite.pdu, ROOM_VERSIONS["1"])}]
            ]

    play(authority, tmp_path, scenario)


def test_who_was_never_invited_has_nothing_to_reject(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        failed = await us.failure(us.start("leave", "!x:y", "dead.invalid"))
        assert failed.status == 502
        assert not us.log.all(PduFact)

    play(authority, tmp_path, scenario)


def _invite(room: ScriptedRoom) -> Event:
    invite = room.build(MEMBER, room.creator, USER, {"membership": "invite"})
    pdu = sign_event(invite.pdu, room.rules, US, KEY)
    assert set(pdu["signatures"]) == {US, room.server}
    return invite

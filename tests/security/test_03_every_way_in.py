"""Rows 3 and 15: one table of all the ways by which an event of another server comes to us. On each of them an event is
refused whose signature is forged, or made by a key that had expired; with its good signature it is taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from annals.ingest.key_store import FetchedKeys
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.matrix.events import Event
from annals.matrix.server_keys import read_server_keys
from annals.matrix.signing import SigningKey, sign_event, sign_json
from annals.schemas.facts.quarantine import InputQuarantined
from annals.schemas.facts.rooms import HandshakeFailed, MembershipReceived, PduFact, StateSetClosed
from tests.api.server.test_quarantine_retries import Retries, without_network
from tests.support import handing_in
from tests.support.gap_fixtures import Play
from tests.support.gap_house import GapHouse
from tests.support.gap_stories import deep_gap, good_event_after
from tests.support.handshake_desk import Us
from tests.support.handshake_desk import play as play_handshake
from tests.support.logged import facts_of_room
from tests.support.peer_room import PeerRoom
from tests.support.remote_server import DAY_MS, RemoteServer
from tests.support.room_elsewhere import RoomElsewhere
from tests.support.scripted_peer import Authority, ScriptedPeer
from tests.support.scripted_room import RoomPeer, ScriptedRoom
from tests.support.server import LiveServer
from tests.support.server_fixtures import server

__all__ = ["server"]

EXPIRED = SigningKey("ed25519:old", b"\x64" * 32)
EXPIRED_AT_MS = 1


def forger(good: SigningKey) -> SigningKey:
    """A key that calls itself as another server's does."""
    return SigningKey(good.key_id, b"\x63" * 32)


FAULTS: dict[str, Callable[[SigningKey], SigningKey]] = {"forged": forger, "expired": lambda _: EXPIRED}
faults = pytest.mark.parametrize("fault", FAULTS)


def resigned(event: Event, signer: str, key: SigningKey) -> dict[str, Any]:
    """The event as it was but for its signature."""
    return sign_event({**event.pdu, "signatures": {}}, event.rules, signer, key)


# What we pull to fill a gap: each lets the peer answer one event with the bad signature, and gives the event.

Pull = Callable[[GapHouse, PeerRoom, SigningKey], Awaitable[Event]]


def _spoil(room: PeerRoom, event: Event, key: SigningKey) -> dict[str, Any]:
    bad = resigned(event, room.peer.name, key)
    room.peer.on("GET", f"/_matrix/federation/v1/event/{event.event_id}", {"pdus": [bad]})
    return bad


async def _missing_events(house: GapHouse, room: PeerRoom, key: SigningKey) -> Event:
    between, last = room.talk(2)
    room.peer.on("POST", room.path("get_missing_events"), {"events": [_spoil(room, between, key)]})
    await house.push(last)
    await house.filler.fill(room.id)
    return between


async def _backfill(house: GapHouse, room: PeerRoom, key: SigningKey) -> Event:
    edge = room.events[room.last.prev_events[0]]
    room.peer.on("GET", room.path("backfill"), {"pdus": [_spoil(room, edge, key)]})
    assert not await house.history.fetch(room.id, [edge.event_id], 10)
    return edge


async def _event_by_id(house: GapHouse, room: PeerRoom, key: SigningKey) -> Event:
    # Of a state that is mostly here, single events are fetched.
    await house.push(*[room.join(f"@member{number}:{room.peer.name}") for number in range(40)])
    join = room.join(f"@hidden:{room.peer.name}")
    last = deep_gap(room)[1]
    _spoil(room, join, key)
    await house.push(last)
    await house.filler.fill(room.id)
    assert (room.asked("event") > 0, room.asked("state")) == (True, 0)
    return join


async def _state(house: GapHouse, room: PeerRoom, key: SigningKey) -> Event:
    *_, join = [room.join(f"@hidden{number}:{room.peer.name}") for number in range(60)]
    anchor, last = deep_gap(room)
    bad = _spoil(room, join, key)
    before = room.state_before[anchor.event_id].values()
    pdus = [bad if event_id == join.event_id else room.events[event_id].pdu for event_id in before]
    room.peer.on("GET", room.path("state"), {"pdus": pdus, "auth_chain": []})
    await house.push(last)
    await house.filler.fill(room.id)
    assert room.asked("state") > 0
    return join


async def _event_auth(house: GapHouse, room: PeerRoom, key: SigningKey) -> Event:
    base, user = room.last, f"@more:{room.peer.name}"
    join = room.join(user)
    aside = room.say("hello", sender=user, prev=[join])
    pushed = room.event("m.room.message", {"body": "by citing"}, sender=user, prev=[base], auth=aside.auth_events)
    good = [room.events[i].pdu for i in pushed.auth_events if i != join.event_id]
    room.peer.on("GET", room.path("event_auth", pushed.event_id), {"auth_chain": [*good, _spoil(room, join, key)]})
    await house.push(pushed)
    await house.filler.fill(room.id)
    assert room.asked("event_auth") > 0
    return join


PULLS: dict[str, Pull] = {
    "get_missing_events": _missing_events,
    "backfill": _backfill,
    "state_ids and event": _event_by_id,
    "state": _state,
    "event_auth": _event_auth,
}


@faults
@pytest.mark.parametrize("way", PULLS)
def test_what_we_pull(play: Play, way: str, fault: str) -> None:
    async def story(house: GapHouse, room: PeerRoom, _: ScriptedPeer) -> None:
        room.peer.old_keys[EXPIRED.key_id] = (EXPIRED.verify_key.base64, EXPIRED_AT_MS)
        bad = await PULLS[way](house, room, FAULTS[fault](room.keys[room.peer.name]))
        assert (await house.verdicts(room)).get(bad.event_id) is None
        assert not [f for f in house.facts() if isinstance(f, PduFact) and f.event_id == bad.event_id]
        refused = [fact for fact in house.facts("quarantine") if isinstance(fact, InputQuarantined)]
        assert {"forged": "signature_invalid", "expired": "key_not_valid"}[fault] in {
            fact.reason for fact in refused if fact.event_id == bad.event_id
        }
        await good_event_after(house, room)

    play(story, late=10 if way == "backfill" else None)


# What we are answered when we join or knock.


def _in_answer(*names: str) -> Callable[[ScriptedRoom, SigningKey], Event]:
    def spoil(room: ScriptedRoom, key: SigningKey) -> Event:
        target = room.state["m.room.name", ""] if "auth_chain" not in names else room.state["m.room.join_rules", ""]
        bad = resigned(target, room.server, key)

        def lie(answer: dict[str, Any]) -> dict[str, Any]:
            changed = {name: [bad if pdu == target.pdu else pdu for pdu in answer[name]] for name in names}
            return {**answer, **changed}

        room.answer_lie = lie
        return target

    return spoil


def _co_signed(room: ScriptedRoom, key: SigningKey) -> Event:
    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        event, mine = answer["event"], {**answer["event"]["signatures"]}
        del mine[room.server]
        return {**answer, "event": sign_event({**event, "signatures": mine}, room.rules, room.server, key)}

    room.answer_lie = lie
    return room.state["m.room.create", ""]


@dataclass(frozen=True)
class Asked:
    """A handshake of ours, and how its answer is spoilt."""

    kind: str
    spoil: Callable[[ScriptedRoom, SigningKey], Event]
    join_rule: str = "public"


ANSWERS = {
    "send_join, state": Asked("join", _in_answer("state")),
    "send_join, auth chain": Asked("join", _in_answer("state", "auth_chain")),
    "send_join, our event": Asked("join", _co_signed, "restricted"),
    "send_knock": Asked("knock", _in_answer("knock_room_state"), "knock"),
}


@faults
@pytest.mark.parametrize("way", ANSWERS)
def test_what_we_are_answered(gap_authority: Authority, tmp_path: Path, way: str, fault: str) -> None:
    asked = ANSWERS[way]

    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        peer.old_keys[EXPIRED.key_id] = (EXPIRED.verify_key.base64, EXPIRED_AT_MS)
        room = peer.make_room("10", join_rule={"join_rule": asked.join_rule})
        room.add("m.room.name", room.creator, "", {"name": "spoilt"})
        good = room.answer_lie
        bad = asked.spoil(room, FAULTS[fault](peer.key))
        handshake = us.start(asked.kind, room.room_id, peer.name)
        outcome = await us.ended(handshake)
        shown = b"".join(f.room_state for f in us.log.all(MembershipReceived) if isinstance(f.room_state, bytes))
        assert b"spoilt" not in shown
        # A name decides nothing: without it the rest is the room.
        assert outcome == ("failed" if way == "send_join, our event" or "auth" in way else "completed")
        if outcome == "failed":
            assert us.log.all(HandshakeFailed)
            assert not us.log.all(StateSetClosed)
        assert bad.event_id not in {fact.event_id for fact in us.log.all(PduFact)}
        room.answer_lie = good
        assert await us.ended(us.start(asked.kind, room.room_id, peer.name)) == "completed"

    play_handshake(gap_authority, tmp_path, scenario)


# What others hand us.


class Maker(RemoteServer):
    """A server that had another key once."""

    def key_answer_fetched(self, valid_for_ms: int = DAY_MS) -> FetchedKeys:
        found = super().key_answer_fetched(valid_for_ms)
        answer = {key: value for key, value in loads(found.answer).items() if key != "signatures"}
        answer["old_verify_keys"] = {EXPIRED.key_id: {"key": EXPIRED.verify_key.base64, "expired_ts": EXPIRED_AT_MS}}
        signed = sign_json(answer, self.name, self.key)
        return replace(found, keys=read_server_keys(signed), answer=canonical_bytes(signed))


@dataclass(frozen=True)
class Offer:
    """An event that will be taken if it is signed, and how it is handed in; that says whether it was taken."""

    event: Event
    hand_in: Callable[[dict[str, Any]], bool]


def _sent(server: LiveServer, maker: Maker) -> Offer:
    room_id, sender, bob = server.user("alice").create_room(preset="public_chat"), RemoteServer(server), maker.user()
    maker.join(room_id, bob)
    [event] = maker.chain(room_id, bob, ["offered"])

    def hand_in(pdu: dict[str, Any]) -> bool:
        status, answer = sender.send([pdu])
        assert (status, list(answer["pdus"])) == (200, [event.event_id])
        return bool(answer["pdus"][event.event_id] == {})

    return Offer(event, hand_in)


def _invited(version: str) -> Callable[[LiveServer, Maker], Offer]:
    def offer(server: LiveServer, maker: Maker) -> Offer:
        room = RoomElsewhere(maker, "1" if version == "v1" else "10")
        invite = room.invitation(server.user("ann").id)
        return Offer(invite, lambda pdu: room.hand_in(replace(invite, pdu=pdu), version)[0] == 200)

    return offer


def _handed_in(kind: str, version: str) -> Callable[[LiveServer, Maker], Offer]:
    def offer(server: LiveServer, maker: Maker) -> Offer:
        rule = {"join_rule": "knock" if kind == "knock" else "public"}
        rules = [{"type": "m.room.join_rules", "state_key": "", "content": rule}]
        room_id, bob = server.user("alice").create_room(initial_state=rules), maker.user()
        if kind == "leave":
            handing_in.join(maker, room_id, bob)
        status, template = handing_in.make(maker, kind, room_id, bob)
        assert status == 200, template
        event = handing_in.signed(maker, template)
        return Offer(event, lambda pdu: handing_in.send(maker, kind, event, pdu, version)[0] == 200)

    return offer


OFFERS: dict[str, Callable[[LiveServer, Maker], Offer]] = {
    "send": _sent,
    "invite v1": _invited("v1"),
    "invite v2": _invited("v2"),
    "send_join v1": _handed_in("join", "v1"),
    "send_join v2": _handed_in("join", "v2"),
    "send_leave v1": _handed_in("leave", "v1"),
    "send_leave v2": _handed_in("leave", "v2"),
    "send_knock v1": _handed_in("knock", "v1"),
}


# In the rooms of v1 invites (versions 1 and 2) it does not matter how long a key was valid.
@pytest.mark.parametrize(
    ("way", "fault"), [(way, fault) for way in OFFERS for fault in FAULTS if (way, fault) != ("invite v1", "expired")]
)
def test_what_others_hand_us(server: LiveServer, way: str, fault: str) -> None:
    maker = Maker(server)
    offer = OFFERS[way](server, maker)
    before = len(facts_of_room(server, offer.event.room_id))
    assert not offer.hand_in(resigned(offer.event, maker.name, FAULTS[fault](maker.key)))
    assert len(facts_of_room(server, offer.event.room_id)) == before, "nothing is logged"
    assert offer.hand_in(offer.event.pdu), "with its own signature it is taken"


@faults
def test_what_is_tried_again_from_quarantine(server: LiveServer, fault: str) -> None:
    alice, sender, late = server.user("alice"), RemoteServer(server), Maker(server, has_keys=False)
    room_id, bob = alice.create_room(preset="public_chat"), late.user()
    event = late.build(room_id, bob, "m.room.member", {"membership": "join"}, bob)
    before = len(facts_of_room(server, room_id))
    with without_network(server):
        assert sender.send([resigned(event, late.name, FAULTS[fault](late.key))])[0] == 200
    late.publish_keys(valid_for_ms=400 * DAY_MS)
    with ThreadPoolExecutor(1) as threads:
        retries = Retries(server, threads)
        retries.work()
        assert retries.outcomes(sender)[-1:] == [{"forged": "signature_invalid", "expired": "key_not_valid"}[fault]]
    assert len(facts_of_room(server, room_id)) == before

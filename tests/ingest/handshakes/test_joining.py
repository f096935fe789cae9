"""Joining through scripted servers: what an honest one leads to on the log, and what comes of each lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annals.matrix.events import Event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.schemas.facts.quarantine import InputQuarantined
from annals.schemas.facts.rooms import HandshakeFailed, PduFact, PduFetched, StateSetChunk, StateSetClosed
from tests.support.handshake_desk import US, USER, Us, play
from tests.support.scripted_peer import Authority
from tests.support.scripted_room import MEMBER, RoomPeer, ScriptedRoom


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_a_room_is_on_the_log_in_the_order_in_which_it_can_be_judged(
    authority: Authority, tmp_path: Path, version: str
) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room(version, members=3)
        before = dict(room.state)
        handshake = us.start("join", room.room_id, peer.name, displayname="Ann")
        assert await us.ended(handshake) == "completed"
        fetched = us.log.all(PduFetched)
        seen: set[str] = set()
        for fact in fetched:
            event = room.events[fact.event_id]
            assert seen.issuperset(event.auth_events), "what is cited comes first"
            seen.add(fact.event_id)
        assert {fact.purpose for fact in fetched[:-1]} == {"state"}
        assert (fetched[-1].purpose, fetched[-1].event_id) == ("anchor", room.sent[0].event_id)
        assert room.sent[0].content == {"membership": "join", "displayname": "Ann"}
        named = {
            role: {event_id for fact in us.log.all(StateSetChunk) if fact.role == role for event_id in fact.event_ids}
            for role in ("state", "auth")
        }
        assert named["state"] == {event.event_id for event in before.values()}
        [closed] = us.log.all(StateSetClosed)
        assert (closed.state_count, closed.auth_count) == (len(named["state"]), len(named["auth"]))
        assert (closed.purpose, closed.event_id) == ("join", room.sent[0].event_id)
        assert us.log.facts[-1] is closed
        assert not us.log.all(InputQuarantined)

    play(authority, tmp_path, scenario)


def _other_room(peer: RoomPeer) -> ScriptedRoom:
    return ScriptedRoom("10", peer.name, peer.key, started_ms=1_600_000_000_000)


def _event(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda answer: {**answer, "event": {**answer["event"], **changes}}


TEMPLATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another type": _event(type="m.room.power_levels"),
    "another sender": _event(sender="@eve:elsewhere"),
    "another state key": _event(state_key="@eve:elsewhere"),
    "no state key": lambda a: {**a, "event": {k: v for k, v in a["event"].items() if k != "state_key"}},
    "another room": _event(room_id="!other:elsewhere"),
    "another membership": _event(content={"membership": "leave"}),
    "a ban": _event(content={"membership": "ban"}),
    "a foreign key": _event(redacts="$something"),
    "a foreign key of content": _event(content={"membership": "join", "third_party_invite": {}}),
    "an authoriser of another server": _event(
        content={"membership": "join", "join_authorised_via_users_server": "@eve:elsewhere"}
    ),
    "an event id": _event(event_id="$chosen"),
    "no prev events": _event(prev_events=[]),
    "prev events that are none": _event(prev_events=[1]),
    "auth events that are none": _event(auth_events="all"),
    "too many prev events": _event(prev_events=[f"${n}" for n in range(21)]),
    "an event twice": _event(auth_events=["$one", "$one"]),
    "no depth": _event(depth="deep"),
    "depth below zero": _event(depth=-1),
    "an unknown room version": lambda a: {**a, "room_version": "annals.unheard.of"},
    "a room version that is none": lambda a: {**a, "room_version": 10},
    "a version of hashed room ids": lambda a: {**a, "room_version": "12"},
    "not an object": lambda a: ["event"],
    "no event": lambda a: {"room_version": a["room_version"]},
}


@pytest.mark.parametrize("lie", TEMPLATES)
def test_no_lying_template_is_signed(authority: Authority, tmp_path: Path, lie: str) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10")
        room.template_lie = TEMPLATES[lie]
        failed = await us.failure(us.start("join", room.room_id, peer.name))
        assert failed.status == (
            400 if lie == "an unknown room version" or ("that is none" in lie and "room" in lie) else 502
        )
        assert failed.reason
        assert not [r for r in peer.requests if "/send_join/" in r.target], "nothing was signed"
        assert us.log.facts == [failed]

    play(authority, tmp_path, scenario)


def _with(name: str, change: Callable[[list[Any], ScriptedRoom], Any]) -> Callable[[ScriptedRoom], Any]:
    def lie(room: ScriptedRoom) -> Any:
        return lambda answer: {**answer, name: change(list(answer[name]), room)}

    return lie


def _forged(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    """A member event with another sender than the one who signed: the signature does not fit."""
    last = {**pdus[-1], "content": {"membership": "join"}, "origin_server_ts": 1}
    return [*pdus[:-1], last]


def _unsigned(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    return [*pdus[:-1], {**pdus[-1], "signatures": {}}]


def _badly_signed(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    other = room.events[next(iter(room.events))].pdu["signatures"]
    return [*pdus[:-1], {**pdus[-1], "signatures": other}]


def _second(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    return [*pdus, room.build("m.room.join_rules", room.creator, "", {"join_rule": "invite"}).pdu]


def _message(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    return [*pdus, room.build("m.room.message", room.creator, None, {"body": "no state"}).pdu]


def _foreign(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    other = ScriptedRoom("10", room.server, room.key, started_ms=1_600_000_000_000)
    return [*pdus, other.state["m.room.join_rules", ""].pdu | {}]


def _second_create(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    content = {"room_version": "10", "creator": room.creator}
    return [*pdus, room.build("m.room.create", room.creator, "", content, prev_events=[], auth_events=[]).pdu]


def _without(event_type: str) -> Callable[[list[Any], ScriptedRoom], list[Any]]:
    return lambda pdus, _: [pdu for pdu in pdus if pdu["type"] != event_type]


def _dangling(pdus: list[Any], room: ScriptedRoom) -> list[Any]:
    return [*pdus, room.build("m.room.topic", room.creator, "", {"topic": "x"}, auth_events=["$nowhere"]).pdu]


def _nowhere(event_type: str) -> Callable[[ScriptedRoom], Any]:
    def lie(room: ScriptedRoom) -> Any:
        keep = _without(event_type)
        return lambda a: {**a, "state": keep(a["state"], room), "auth_chain": keep(a["auth_chain"], room)}

    return lie


def _bare(_: ScriptedRoom) -> Any:
    """Without power levels and join rules, which members cite."""
    kept = ("m.room.create", MEMBER)
    return lambda a: {**a, "state": [pdu for pdu in a["state"] if pdu["type"] in kept], "auth_chain": []}


ANSWERS: dict[str, tuple[Callable[[ScriptedRoom], Any], str]] = {
    "a forged event": (_with("state", _forged), "signature_invalid"),
    "an event without signature": (_with("state", _unsigned), "signature_missing"),
    "a forged event of the auth chain": (_with("auth_chain", _forged), "signature_invalid"),
    "two events for one key": (_with("state", _second), "two events for"),
    "a message as state": (_with("state", _message), "no state event"),
    "an event of another room": (_with("state", _foreign), "of another room"),
    "an auth event of another room": (_with("auth_chain", _foreign), "of another room"),
    "a second create": (_with("auth_chain", _second_create), "create events"),
    "no create": (_nowhere("m.room.create"), "create events"),
    "a create outside of the state": (_with("state", _without("m.room.create")), "create events"),
    "a citation that leads nowhere": (_with("state", _dangling), "which the answer lacks"),
    "no auth chain": (_bare, "which the answer lacks"),
    "a number as event": (_with("state", lambda pdus, _: [*pdus, 1]), "not an object"),
    "an event in no format": (_with("state", lambda pdus, _: [*pdus, {"type": "m.room.name"}]), "malformed"),
    "no state": (lambda _: lambda a: {k: v for k, v in a.items() if k != "state"}, "state or auth_chain"),
    "state that is none": (lambda _: lambda a: {**a, "state": {}}, "state or auth_chain"),
    "a part of the members": (lambda _: lambda a: {**a, "members_omitted": True}, "members are omitted"),
    "our event changed": (lambda _: lambda a: {**a, "event": {**a["event"], "origin_server_ts": 1}}, "was changed"),
    "our event as a string": (lambda _: lambda a: {**a, "event": "$event"}, "something else"),
    "a list": (lambda _: lambda a: [a], "not an object"),
}


@pytest.mark.parametrize("lie", ANSWERS)
def test_a_lying_answer_fails_the_join_cleanly(authority: Authority, tmp_path: Path, lie: str) -> None:
    make, reason = ANSWERS[lie]

    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10", members=2)
        room.answer_lie = make(room)
        failed = await us.failure(us.start("join", room.room_id, peer.name))
        assert (failed.status, failed.errcode, failed.server) == (502, "M_UNKNOWN", peer.name)
        assert reason in failed.reason
        assert not us.log.all(PduFact), "nothing of the room is believed"
        assert not us.log.all(StateSetClosed)

    play(authority, tmp_path, scenario)


def test_another_version_than_the_template_said_fails_the_join(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10")
        room.template_lie = lambda answer: {**answer, "room_version": "9"}
        failed = await us.failure(us.start("join", room.room_id, peer.name))
        assert "the room is of version '10'" in failed.reason

    play(authority, tmp_path, scenario)


def test_the_next_server_helps_where_one_lies_breaks_off_or_refuses(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, other: RoomPeer) -> None:
        for spoil in ("make_join", "send_join", "lie", "refusal"):
            peer.breaks_off, peer.refuses = set(), {}
            room = other.make_room("10", members=1)
            other.rooms[room.room_id] = room
            peer.rooms[room.room_id] = bad = other.rooms[room.room_id].__class__("10", peer.name, peer.key)
            bad.room_id = room.room_id
            if spoil == "lie":
                bad.template_lie = _event(sender="@eve:elsewhere")
            elif spoil == "refusal":
                peer.refuses["make_join"] = (403, {"errcode": "M_FORBIDDEN", "error": "no"})
            else:
                peer.breaks_off = {spoil}
            handshake = us.start("join", room.room_id, peer.name, "dead.invalid", other.name)
            assert await us.ended(handshake) == "completed", spoil
            [closed] = [fact for fact in us.log.all(StateSetClosed) if fact.handshake_id == handshake]
            assert closed.origin == other.name
        assert not us.log.all(HandshakeFailed)

    play(authority, tmp_path, scenario)


def _invite_only(room: ScriptedRoom) -> Event:
    return room.build("m.room.join_rules", room.creator, "", {"join_rule": "invite"})


def _banned(room: ScriptedRoom) -> Event:
    return room.build(MEMBER, room.creator, USER, {"membership": "ban"})


@pytest.mark.parametrize("forbid", [_invite_only, _banned])
@pytest.mark.parametrize("version", ["10", "12"])
def test_the_next_server_helps_where_the_state_of_one_does_not_let_us_in(
    authority: Authority, tmp_path: Path, version: str, forbid: Callable[[ScriptedRoom], Event]
) -> None:
    async def scenario(us: Us, peer: RoomPeer, other: RoomPeer) -> None:
        room = other.make_room(version, members=1)
        peer.rooms[room.room_id] = room
        forbidden = forbid(room)

        def lie(answer: dict[str, Any]) -> dict[str, Any]:
            room.answer_lie = lambda honest: honest
            return {**answer, "state": [*(p for p in answer["state"] if not _same_key(p, forbidden)), forbidden.pdu]}

        room.answer_lie = lie
        assert await us.ended(us.start("join", room.room_id, peer.name, other.name)) == "completed"
        [closed] = us.log.all(StateSetClosed)
        assert closed.origin == other.name
        assert forbidden.event_id not in {fact.event_id for fact in us.log.all(PduFact)}

    play(authority, tmp_path, scenario)


def _same_key(pdu: dict[str, Any], event: Event) -> bool:
    return (pdu["type"], pdu["state_key"]) == event.key


def test_a_state_that_lets_us_in_against_the_rules_does_not(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10", members=1, join_rule={"join_rule": "invite"})
        room.add("m.room.join_rules", f"@member0:{peer.name}", "", {"join_rule": "public"})
        failed = await us.failure(us.start("join", room.room_id, peer.name))
        assert "our join is not allowed" in failed.reason
        assert us.log.facts == [failed]

    play(authority, tmp_path, scenario)


def test_what_servers_of_the_room_say_is_what_the_user_hears(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, other: RoomPeer) -> None:
        refusal = {"errcode": "M_UNABLE_TO_AUTHORISE_JOIN", "error": "not by us"}
        peer.refuses["make_join"] = (400, refusal)
        failed = await us.failure(us.start("join", "!x:y", peer.name, "dead.invalid"))
        assert (failed.status, failed.errcode, failed.server) == (400, "M_UNABLE_TO_AUTHORISE_JOIN", peer.name)
        # 401 is a word about our request, and would log the user out.
        peer.refuses["make_join"] = (401, {"errcode": "M_UNAUTHORIZED", "error": "who are you"})
        failed = await us.failure(us.start("join", "!x:y", peer.name))
        assert (failed.status, failed.errcode) == (502, "M_UNKNOWN")
        failed = await us.failure(us.start("join", "!x:y", us.desk.server_name, "not a server"))
        assert (failed.status, failed.errcode, failed.server) == (404, "M_NOT_FOUND", None)

    play(authority, tmp_path, scenario)


def _no_event(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "event"}


def _own_signature_only(answer: dict[str, Any]) -> dict[str, Any]:
    signatures = {US: answer["event"]["signatures"][US]}
    return {**answer, "event": {**answer["event"], "signatures": signatures}}


@pytest.mark.parametrize("version", ["8", "10", "12"])
def test_a_restricted_join_carries_both_signatures(authority: Authority, tmp_path: Path, version: str) -> None:
    rule = {"join_rule": "restricted", "allow": []}

    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room(version, join_rule=rule)
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        anchor = us.log.all(PduFetched)[-1]
        assert {item.server for item in anchor.signatures} == {us.desk.server_name, peer.name}
        for lie in (_no_event, _own_signature_only):
            room = peer.make_room(version, join_rule=rule)
            room.answer_lie = lie
            failed = await us.failure(us.start("join", room.room_id, peer.name))
            assert "vouches" in failed.reason or "does not pass" in failed.reason

    play(authority, tmp_path, scenario)


def test_references_of_old_rooms_may_come_without_hashes(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("1")
        bare = [[event_id, {}] for event_id, _ in room.template(USER, "join")["event"]["auth_events"]]
        room.template_lie = _event(auth_events=bare)
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        # What prev_events tells of an event is used for it everywhere.
        assert room.sent[0].pdu["auth_events"][:-1] == bare[:-1]
        wrong: list[Any]
        for wrong in (["$one"], [["$one"]], [["$one", "hash"]], [[{}, {}]]):
            room.template_lie = _event(auth_events=wrong)
            failed = await us.failure(us.start("join", room.room_id, peer.name))
            assert "not an id and its hashes" in failed.reason

    play(authority, tmp_path, scenario)


def test_an_old_server_is_asked_by_version_1(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        peer.has_v2 = False
        room = peer.make_room("6")
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"

    play(authority, tmp_path, scenario)


def test_events_without_a_key_are_left_out_with_what_cites_them(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10")
        gone = "@gone:dead.invalid"
        room.take(room.build(MEMBER, gone, gone, {"membership": "join"}, server_name="dead.invalid"))
        topic = room.take(room.build("m.room.topic", gone, "", {"topic": "x"}, server_name="dead.invalid"))
        name = room.add("m.room.name", room.creator, "", {"name": "x"})
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        [chunk] = [fact for fact in us.log.all(StateSetChunk) if fact.role == "state"]
        assert name.event_id in chunk.event_ids
        assert topic.event_id not in chunk.event_ids
        assert {fact.reason for fact in us.log.all(InputQuarantined)} == {"key_unavailable"}
        [closed] = us.log.all(StateSetClosed)
        assert closed.state_count == len(chunk.event_ids) == len(room.state) - 3

    play(authority, tmp_path, scenario)


@pytest.mark.parametrize("spoil", [_unsigned, _badly_signed])
def test_a_badly_signed_event_that_decides_nothing_is_left_out(
    authority: Authority, tmp_path: Path, spoil: Callable[[list[Any], ScriptedRoom], list[Any]]
) -> None:
    """The rest is the room: who may do what in it does not hang on its name."""

    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10", members=2)
        topic = room.add("m.room.topic", room.creator, "", {"topic": "x"})
        name = room.add("m.room.name", room.creator, "", {"name": "x"})
        room.answer_lie = _with("state", spoil)(room)
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        [chunk] = [fact for fact in us.log.all(StateSetChunk) if fact.role == "state"]
        assert topic.event_id in chunk.event_ids
        assert name.event_id not in chunk.event_ids
        assert name.event_id not in {fact.event_id for fact in us.log.all(PduFact)}
        [quarantined] = us.log.all(InputQuarantined)
        assert quarantined.reason in ("signature_missing", "signature_invalid")

    play(authority, tmp_path, scenario)


def test_events_signed_with_a_key_that_everybody_has_are_left_out(authority: Authority, tmp_path: Path) -> None:
    """Or whoever has it could close every public room to us by joining it."""

    async def scenario(us: Us, peer: RoomPeer, other: RoomPeer) -> None:
        room = peer.make_room("10")
        us.desk.pdus._keyring._compromised |= {other.key.verify_key.public}
        known = f"@known:{other.name}"
        room.take(room.build(MEMBER, known, known, {"membership": "join"}, server_name=other.name, key=other.key))
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        assert {fact.reason for fact in us.log.all(InputQuarantined)} == {"key_compromised"}
        [closed] = us.log.all(StateSetClosed)
        assert closed.state_count == len(room.state) - 2

    play(authority, tmp_path, scenario)


def test_events_that_are_here_already_are_named_and_not_logged_again(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("11", members=4)
        us.log.known = {room.state[MEMBER, room.creator].event_id}
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        assert us.log.known.isdisjoint(fact.event_id for fact in us.log.all(PduFetched))
        assert any(us.log.known <= set(fact.event_ids) for fact in us.log.all(StateSetChunk))

    play(authority, tmp_path, scenario)


def test_of_a_large_room_what_was_verified_before_a_forged_event_is_no_room(
    authority: Authority, tmp_path: Path
) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10", members=600)
        room.answer_lie = _with("state", _forged)(room)
        failed = await us.failure(us.start("join", room.room_id, peer.name))
        assert "signature_invalid" in failed.reason
        logged = {fact.event_id for fact in us.log.all(PduFact)}
        assert len(logged) == 500
        assert logged < {event.event_id for event in room.state.values()}
        assert not us.log.all(StateSetChunk)
        assert not us.log.all(StateSetClosed)

    play(authority, tmp_path, scenario)

"""Row 1, for what we ask: whatever JSON a server answers, it ends as an error of that server, or in less that is known.
No exception of another kind comes of it, no work dies, and afterwards what is good is taken."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annals.federation.errors import BadAnswer, FederationError
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.servers import ServersAsked
from annals.ingest.handshakes.answers import Believed, check_same_event, plan_room, read_join_answer
from annals.ingest.handshakes.errors import AttemptFailed
from annals.ingest.handshakes.foreseeing import check_allowed
from annals.ingest.handshakes.templates import JOIN, Asked, event_from, read_template
from annals.ingest.key_fetching import checked
from annals.ingest.verification import Candidate, Prepared, Verified, judge, prepare
from annals.matrix.canonical_json import loads
from annals.matrix.errors import MatrixError
from annals.matrix.signing import SigningKey, sign_json
from annals.queries.remote import NotReached, RemoteReads
from annals.queries.remote_rooms import RemoteRooms
from annals.schemas.facts.rooms import HandshakeFailed
from tests.support.handshake_desk import Us
from tests.support.handshake_desk import play as play_handshake
from tests.support.scripted_peer import Authority
from tests.support.scripted_room import RoomPeer, ScriptedRoom
from tests.support.spoiling import Lying, Spoilt, lies

ROOM_ID, EVENT_ID, SERVER = "!r:peer.example", "$" + "A" * 43, "peer.example"
ANN = "@ann:us.example"
OURS, THEIRS = SigningKey("ed25519:u_1", b"\7" * 32), SigningKey("ed25519:a_1", b"\5" * 32)
_numbers = itertools.count(1)
# These look at values only, and are quick.
many = settings(max_examples=3 * settings().max_examples)


class OneAnswer:
    """A client to whom everybody answers the same."""

    def __init__(self, answer: Any) -> None:
        self._body = json.dumps(answer).encode()

    async def ask(self, *_: Any, **__: Any) -> bytes:
        return self._body

    async def get(self, server: str, *_: Any, **__: Any) -> Any:
        try:
            return loads(self._body)
        except MatrixError as error:
            raise BadAnswer(server, str(error)) from error

    post = put = get


def asked_of(client: Any) -> list[Callable[[], Awaitable[Any]]]:
    """Every question that is put to one server about a room, a user, an alias."""
    questions = Questions(client, ServersAsked(lambda: 0, lambda: 0.5), _threads)
    reads, rooms = RemoteReads(client), RemoteRooms(client, "us.example", lambda: 0)
    return [
        lambda: questions.missing_events(SERVER, ROOM_ID, [], [EVENT_ID], 10),
        lambda: questions.backfill(SERVER, ROOM_ID, [EVENT_ID], 10),
        lambda: questions.event(SERVER, EVENT_ID),
        lambda: questions.event_auth(SERVER, ROOM_ID, EVENT_ID),
        lambda: questions.state_ids(SERVER, ROOM_ID, EVENT_ID),
        lambda: questions.state(SERVER, ROOM_ID, EVENT_ID),
        lambda: reads.resolve("#a:peer.example"),
        lambda: reads.profile("@a:peer.example"),
        lambda: rooms.public_rooms(SERVER, {}),
        lambda: rooms.space(ROOM_ID, [SERVER], False),
    ]


_threads = ThreadPoolExecutor(1)
_SUMMARY = {"room_id": ROOM_ID, "num_joined_members": 1, "world_readable": True, "guest_can_join": False, "name": "x"}
_CHILD = {"type": "m.space.child", "state_key": "!c:x", "sender": "@a:b", "origin_server_ts": 1}
#: All that the questions look for, in one answer.
GOOD = {
    **{name: [{"type": "m.room.message"}] for name in ("events", "pdus", "auth_chain")},
    **{name: [EVENT_ID] for name in ("pdu_ids", "auth_chain_ids", "servers", "inaccessible_children")},
    "room_id": ROOM_ID,
    "displayname": "a",
    "avatar_url": "mxc://a/b",
    "next_batch": "t",
    "total_room_count_estimate": 1,
    "chunk": [_SUMMARY],
    "children": [_SUMMARY],
    "room": {**_SUMMARY, "children_state": [{**_CHILD, "content": {"via": ["x"], "order": "a"}}]},
}


@many
@given(lies)
def test_questions(lie: Spoilt) -> None:
    async def run() -> None:
        for ask in asked_of(OneAnswer(lie.of(GOOD))):
            with suppress(FederationError, NotReached):
                await ask()

    asyncio.run(run())


@many
@given(lies)
def test_keys(lie: Spoilt) -> None:
    keys = {THEIRS.key_id: {"key": THEIRS.verify_key.base64}}
    good = {"server_name": SERVER, "verify_keys": keys, "old_verify_keys": {}, "valid_until_ts": 2**52}
    with suppress(MatrixError):
        checked(lie.of(sign_json(good, SERVER, THEIRS)), SERVER, SERVER, 0)
    with suppress(MatrixError, TypeError):
        spoilt = lie.of(good)
        if isinstance(spoilt, dict):
            checked(sign_json(spoilt, SERVER, THEIRS), SERVER, SERVER, 0).known()


def a_room(version: str) -> tuple[ScriptedRoom, Asked]:
    room = ScriptedRoom(version, SERVER, THEIRS, started_ms=1_700_000_000_000)
    room.member("bob")
    return room, Asked(room.room_id, ANN, JOIN, SERVER)


@many
@given(st.sampled_from(["1", "6", "10", "12"]), lies)
def test_templates(version: str, lie: Spoilt) -> None:
    room, asked = a_room(version)
    with suppress(AttemptFailed):
        template = read_template(lie.of(room.template(ANN, JOIN)), asked)
        ours = event_from(template, asked, {}, "us.example", OURS, 1_700_000_000_000)
        assert (ours.type, ours.sender, ours.state_key, ours.room_id) == ("m.room.member", ANN, ANN, room.room_id)


@many
@given(st.sampled_from(["1", "6", "10", "12"]), lies)
def test_answers_to_send_join(version: str, lie: Spoilt) -> None:
    room, asked = a_room(version)
    ours = event_from(read_template(room.template(ANN, JOIN), asked), asked, {}, "us.example", OURS, 1_700_000_000_000)
    told = lie.of(room.accept(ours.pdu))
    known = _known()
    with suppress(AttemptFailed):
        answer = read_join_answer(json.dumps(told).encode())
        if answer.event is not None:
            check_same_event(answer.event, ours)
        prepared = [prepare(Candidate(pdu, room.rules)) for pdu in answer.pdus]
        plan = plan_room(answer, prepared, asked, room.rules, ours)
        ordered = [item for index in plan.order if isinstance(item := prepared[index], Prepared)]
        believed = Believed(plan)
        events = believed.take([judge(item, known) for item in ordered])
        believed.check_lets_us_in()
        check_allowed(ours, [item.event for item in events[: plan.stands_on]], plan.state)
        state, auth_chain = believed.ids()
        assert {item.event.event_id for item in events} >= {*state, *auth_chain}
        assert all(isinstance(item, Verified) for item in events)


@pytest.mark.parametrize("event_type", [[], {}, ["m.room.member"], None, 1])
@pytest.mark.parametrize("version", ["1", "12"])
def test_an_event_of_a_room_whose_type_is_no_text(version: str, event_type: Any) -> None:
    room, asked = a_room(version)
    ours = event_from(read_template(room.template(ANN, JOIN), asked), asked, {}, "us.example", OURS, 1_700_000_000_000)
    told = room.accept(ours.pdu)
    told = {**told, "state": [*told["state"], {**told["state"][-1], "type": event_type}]}
    answer = read_join_answer(json.dumps(told).encode())
    prepared = [prepare(Candidate(pdu, room.rules)) for pdu in answer.pdus]
    with suppress(AttemptFailed):
        plan = plan_room(answer, prepared, asked, room.rules, ours)
        assert len(plan.state) == len(told["state"]) - 1


def _known() -> Callable[[Any], Any]:
    keys = {THEIRS.key_id: {"key": THEIRS.verify_key.base64}}
    answer = {"server_name": SERVER, "verify_keys": keys, "old_verify_keys": {}, "valid_until_ts": 2**52}
    found = checked(sign_json(answer, SERVER, THEIRS), SERVER, SERVER, 1_800_000_000_000).known()
    return lambda need: found.get(need.key_id) if need.server == SERVER else None


class LyingRoomPeer(Lying, RoomPeer):
    """A peer with rooms and good answers, which are spoilt."""


HANDSHAKES = {"join": ("make_join", "send_join"), "knock": ("make_knock", "send_knock"), "leave": ("make_leave",)}


@settings(max_examples=3)
@given(rounds=st.lists(st.tuples(st.sampled_from(sorted(HANDSHAKES)), lies, lies), min_size=6, max_size=6))
def test_handshakes(
    gap_authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rounds: list[tuple[str, Spoilt, Spoilt]],
) -> None:
    monkeypatch.setattr("tests.support.handshake_desk.RoomPeer", LyingRoomPeer)
    folder = tmp_path / f"desk{next(_numbers)}"

    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        assert isinstance(peer, LyingRoomPeer)
        for kind, *told in rounds:
            room = peer.make_room("10", members=1, join_rule={"join_rule": "knock" if kind == "knock" else "public"})
            for part, lie in zip(HANDSHAKES[kind], told, strict=False):
                peer.lie_about = {part: lie.of}
                assert await us.ended(us.start(kind, room.room_id, peer.name)) in ("completed", "failed")
        assert not [fact for fact in us.log.all(HandshakeFailed) if fact.status in (500, 504)], "errors of ours"
        peer.lie_about = {}
        assert await us.ended(us.start("join", peer.make_room("10").room_id, peer.name)) == "completed"

    play_handshake(gap_authority, folder, scenario)

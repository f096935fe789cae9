"""What a server that is in a room reads of it: events, states, auth chains, history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from annals.api.auth.turns import RETRY_AFTER_S, Turns
from annals.matrix.hashing import event_id as id_of
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.queries.federation.reads import EARLIEST_MAX, NAMED_MAX
from tests.support.federation_fixtures import closed_room, logged, member, said
from tests.support.room_weaver import ALICE, CAROL, DAVE, Weaver, plain_room, woven
from tests.support.signed_requests import NOW_MS, FederationApp, federation_app, path
from tests.support.statements import count_statements
from tests.support.sync_world import World

PEER = "peer"


def _ids(weaver: Weaver, pdus: list[dict[str, Any]]) -> list[str]:
    return [id_of(pdu, weaver.rules) for pdu in pdus]


@pytest.mark.parametrize("version", ["10", "12"])
def test_a_room_is_read_as_it_is(world: World, asked: FederationApp, version: str) -> None:
    weaver = logged(world, closed_room(version))
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "one"}))
    body = said(weaver, ALICE, "hello")
    logged(world, weaver, len(weaver.events) - 2)
    room, oracle = weaver.room_id, weaver.oracle
    status, answer = asked.get(PEER, path("event", body))
    assert status == 200
    assert answer == {"origin": "test", "origin_server_ts": NOW_MS, "pdus": [oracle.events[body].pdu]}
    status, answer = asked.get(PEER, path("state_ids", room), event_id=topic.event_id)
    assert status == 200
    before = set(oracle.before[topic.event_id].values())
    assert set(answer["pdu_ids"]) == before
    chain = set(answer["auth_chain_ids"])
    assert weaver.events[0].event_id in chain, "the create event, which version 12 cites by the room's id"
    _, whole = asked.get(PEER, path("state", room), event_id=topic.event_id)
    assert set(_ids(weaver, whole["pdus"])) == before
    assert set(_ids(weaver, whole["auth_chain"])) == chain
    assert all(pdu == oracle.events[id_of(pdu, weaver.rules)].pdu for pdu in whole["pdus"] + whole["auth_chain"])
    _, answer = asked.get(PEER, path("event_auth", room, topic.event_id))
    assert set(_ids(weaver, answer["auth_chain"])) >= set(topic.auth_events)


def test_history_is_read_backwards_and_gaps_are_filled(world: World, asked: FederationApp) -> None:
    weaver = plain_room("12")
    fork = said(weaver, CAROL, "before the fork")
    left = weaver.add(("m.room.message", CAROL, None, {"body": "left"}), [fork]).event_id
    right = weaver.add(("m.room.message", CAROL, None, {"body": "right"}), [fork]).event_id
    last = said(weaver, CAROL, "after it")
    logged(world, weaver)
    room = path("backfill", weaver.room_id)
    _, answer = asked.get(PEER, room, v=last, limit=4)
    assert set(_ids(weaver, answer["pdus"])) == {last, left, right, fork}
    assert [pdu["depth"] for pdu in answer["pdus"]] == sorted((pdu["depth"] for pdu in answer["pdus"]), reverse=True)
    _, answer = asked.get(PEER, room, [("v", left), ("v", right)], limit=3)
    assert set(_ids(weaver, answer["pdus"])) == {left, right, fork}
    _, answer = asked.get(PEER, room, v=last, limit=1_000)
    assert set(_ids(weaver, answer["pdus"])) == {event.event_id for event in weaver.events}
    gap = {"latest_events": [last], "earliest_events": [fork], "limit": 10}
    _, answer = asked.post(PEER, path("get_missing_events", weaver.room_id), gap)
    assert set(_ids(weaver, answer["events"])) == {left, right}
    gap = {"latest_events": [last], "earliest_events": [], "limit": 3}
    _, answer = asked.post(PEER, path("get_missing_events", weaver.room_id), gap)
    assert _ids(weaver, answer["events"])[0] == fork, "the oldest comes first"
    gap = {"latest_events": [last], "earliest_events": [], "min_depth": weaver.oracle.events[left].depth, "limit": 10}
    _, answer = asked.post(PEER, path("get_missing_events", weaver.room_id), gap)
    assert set(_ids(weaver, answer["events"])) == {left, right}


def test_an_asker_that_has_many_heads_names_them_all(world: World, asked: FederationApp) -> None:
    weaver = plain_room("12")
    first, second, last = (said(weaver, CAROL, text) for text in ("had", "lacked", "just sent"))
    logged(world, weaver)
    heads = [f"$head{number}" for number in range(NAMED_MAX + 20)]
    gap = {"latest_events": [last], "earliest_events": [*heads, first], "limit": 10}
    status, answer = asked.post(PEER, path("get_missing_events", weaver.room_id), gap)
    assert (status, _ids(weaver, answer["events"])) == (200, [second])
    gap["earliest_events"] = [f"$head{number}" for number in range(EARLIEST_MAX + 20)]
    assert asked.post(PEER, path("get_missing_events", weaver.room_id), gap)[0] == 200


SEND_JOINS = ("/_matrix/federation/v1/send_join", "/_matrix/federation/v2/send_join")


def test_what_is_a_large_part_of_a_room_is_answered_in_turn(world: World) -> None:
    weaver = logged(world, plain_room("12"))
    room, last = weaver.room_id, weaver.events[-1].event_id
    with federation_app(world.database, turns=Turns(at_once=1, waiting_max=-1)) as nobodys_turn:
        answers = [
            *(nobodys_turn.get(PEER, path(what, room), event_id=last) for what in ("state", "state_ids")),
            nobodys_turn.get(PEER, path("event_auth", room, last)),
            nobodys_turn.get(PEER, path("backfill", room), v=last, limit=1),
            nobodys_turn.post(PEER, path("get_missing_events", room), {"latest_events": [], "earliest_events": []}),
            nobodys_turn.post(PEER, "/user/keys/query", {"device_keys": {}}),
            nobodys_turn.post(PEER, "/user/keys/claim", {"one_time_keys": {}}),
            # Before anything of the join is looked at, and so before it is on the log.
            *(nobodys_turn.ask(PEER, "PUT", f"{send_join}{path(room, last)}", {}) for send_join in SEND_JOINS),
        ]
        told = {(status, answer["errcode"], answer["retry_after_ms"]) for status, answer in answers}
        assert told == {(429, "M_LIMIT_EXCEEDED", RETRY_AFTER_S * 1000)}
        assert nobodys_turn.get(PEER, path("event", last))[0] == 200


@pytest.mark.parametrize("version", ["10", "11"])
def test_a_redacted_event_is_given_redacted_by_its_version(world: World, asked: FederationApp, version: str) -> None:
    weaver = plain_room(version)
    body = said(weaver, CAROL, "taken back")
    weaver.add(("m.room.redaction", CAROL, None, {"redacts": body}))
    logged(world, weaver)
    _, answer = asked.get(PEER, path("event", body))
    assert answer["pdus"] == [redact(weaver.oracle.events[body].pdu, ROOM_VERSIONS[version])]


def test_a_rejected_event_is_given_to_who_asks_for_it_by_its_id(world: World, asked: FederationApp) -> None:
    weaver = plain_room("12")
    wrong = weaver.add(("m.room.topic", CAROL, "", {"topic": "no power"})).event_id
    assert weaver.oracle.verdicts[wrong] == "rejected"
    behind = weaver.add(("m.room.message", CAROL, None, {"body": "behind it"}), [wrong])
    logged(world, weaver)
    status, answer = asked.get(PEER, path("event", wrong))
    assert (status, _ids(weaver, answer["pdus"])) == (200, [wrong])
    gap = {"latest_events": [behind.event_id], "earliest_events": [], "limit": 1}
    _, answer = asked.post(PEER, path("get_missing_events", weaver.room_id), gap)
    assert _ids(weaver, answer["events"]) == [wrong]
    # It is not spread, and what lies behind it is still reached.
    _, answer = asked.get(PEER, path("backfill", weaver.room_id), v=behind.event_id, limit=100)
    assert set(_ids(weaver, answer["pdus"])) == {event.event_id for event in weaver.events} - {wrong}


def test_the_nearest_event_to_a_moment(world: World, asked: FederationApp) -> None:
    weaver = plain_room("12")
    for number in range(5):
        said(weaver, CAROL, str(number))
    logged(world, weaver)
    times = {event.event_id: event.origin_server_ts for event in weaver.events}
    room = path("timestamp_to_event", weaver.room_id)
    middle = sorted(times.values())[len(times) // 2]
    for direction, nearest in (("f", min), ("b", max)):
        status, answer = asked.get(PEER, room, ts=middle, dir=direction)
        wanted = [at for at in times.values() if (at >= middle if direction == "f" else at <= middle)]
        assert status == 200
        assert answer["origin_server_ts"] == times[answer["event_id"]] == nearest(wanted)
    assert asked.get(PEER, room, ts=10**15, dir="f")[0] == 404


@pytest.mark.parametrize(
    ("target", "errcode"),
    [
        ("/state/!r:test", "M_MISSING_PARAM"),
        ("/state_ids/!r:test", "M_MISSING_PARAM"),
        ("/backfill/!r:test?limit=3", "M_MISSING_PARAM"),
        ("/backfill/!r:test?v=$a", "M_MISSING_PARAM"),
        ("/backfill/!r:test?v=$a&limit=-1", "M_INVALID_PARAM"),
        ("/timestamp_to_event/!r:test?ts=1", "M_MISSING_PARAM"),
        ("/timestamp_to_event/!r:test?ts=x&dir=f", "M_INVALID_PARAM"),
        ("/timestamp_to_event/!r:test?ts=1&dir=up", "M_INVALID_PARAM"),
    ],
)
def test_what_is_missing_or_wrong_is_said(asked: FederationApp, target: str, errcode: str) -> None:
    status, answer = asked.get(PEER, target)
    assert (status, answer["errcode"]) == (400, errcode)


def test_a_body_of_wrong_types_is_refused(asked: FederationApp) -> None:
    room = path("get_missing_events", "!r:test")
    for body in ({}, {"latest_events": "$a", "earliest_events": []}, {"latest_events": [1], "earliest_events": []}):
        assert asked.post(PEER, room, body)[0] == 400
    many = {"latest_events": [f"${n}" for n in range(51)], "earliest_events": []}
    assert asked.post(PEER, room, many)[0] == 400


def test_an_unsigned_request_is_refused(world: World, asked: FederationApp) -> None:
    weaver = logged(world, plain_room("12"))
    target = "/_matrix/federation/v1" + path("event", weaver.events[-1].event_id)
    assert asked.client.get(target).status_code == 401
    forged = {"Authorization": 'X-Matrix origin="peer",destination="test",key="ed25519:p_1",sig="AAAA"'}
    assert asked.client.get(target, headers=forged).status_code == 401


def _asks(asked: FederationApp, room: str, last: str) -> Iterator[Callable[[], tuple[int, Any]]]:
    gap = {"latest_events": [last], "earliest_events": [], "limit": 50}
    yield lambda: asked.get("other", path("event", last))
    for what in ("state_ids", "state"):
        yield partial(asked.get, "other", path(what, room), event_id=last)
    yield lambda: asked.get("other", path("event_auth", room, last))
    yield lambda: asked.get("other", path("backfill", room), v=last, limit=100)
    yield lambda: asked.post("other", path("get_missing_events", room), gap)
    yield lambda: asked.get("other", path("timestamp_to_event", room), ts=10**6, dir="b")


def test_a_request_costs_the_same_number_of_queries_whatever_the_room(world: World, asked: FederationApp) -> None:
    counts: list[list[int]] = []
    for seed, length in ((2, 5), (4, 60)):
        weaver = woven(seed, "12", length)
        weaver.add(("m.room.join_rules", ALICE, "", {"join_rule": "public"}))
        member(weaver, DAVE, "leave", ALICE)
        member(weaver, DAVE, "join")
        weaver.add(("m.room.history_visibility", ALICE, "", {"history_visibility": "joined"}))
        last = said(weaver, DAVE, "last")
        assert weaver.oracle.verdicts[last] == "accepted"
        logged(world, weaver)
        sent = []
        for ask in _asks(asked, weaver.room_id, last):
            with count_statements(world.database) as statements:
                assert ask()[0] == 200
            sent.append(len(statements.queries))
        counts.append(sent)
    assert counts[0] == counts[1]
    assert max(counts[0]) <= 8

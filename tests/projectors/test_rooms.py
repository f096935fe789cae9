"""Rooms, with the real machine: the tables hold what the machine decided, however the log is cut."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from annals.database.text import restore
from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.event_json import join_event
from annals.projectors.rooms.fold import event_in
from annals.schemas.facts.decisions import Verdict
from annals.schemas.facts.rooms import PduFact
from annals.schemas.position import offset_of
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.decisions import decisions_that_count
from tests.support.projectors import append, connector, dump, empty, running
from tests.support.room_traffic import RoomStory, numbered_room, traffic
from tests.support.rooms import user
from tests.support.soak import only_in_soak


def _verdicts(url: str) -> dict[tuple[str, str], str]:
    connection = WriteConnection(url, "g1")
    try:
        return {(r, e): v for r, e, v in connection.rows("SELECT room_id, event_id, verdict FROM events")}
    finally:
        connection.close()


def _expected(stories: list[RoomStory]) -> dict[tuple[str, str], str]:
    return {
        (story.driver.room_id, event_id): row["verdict"].verdict
        for story in stories
        for event_id, row in story.driver.tables.events.items()
    }


def _check_current_state(url: str, stories: list[RoomStory]) -> None:
    connection = WriteConnection(url, "g1")
    try:
        for story in stories:
            rows = connection.rows(
                "SELECT type, state_key, event_id FROM current_state WHERE room_id = %s", (story.driver.room_id,)
            )
            current = {(restore(t), restore(k)): e for t, k, e in rows}
            assert current == story.driver.tables.current
            tips = connection.rows(
                "SELECT event_id FROM forward_extremities WHERE room_id = %s", (story.driver.room_id,)
            )
            assert {e for (e,) in tips} == set(story.driver.tables.extremities)
    finally:
        connection.close()


@pytest.mark.parametrize("seed", [1, only_in_soak(2)])
def test_tables_hold_what_the_machine_decides(log: EmbeddedLog, tables_url: str, seed: int) -> None:
    stories, facts = traffic(random.Random(seed), rooms=4, length=25)
    with running(log, connector(tables_url)) as loop:
        append(log, facts)
        loop.catch_up()
        assert not loop.stopped
    assert _verdicts(tables_url) == _expected(stories)
    assert {"accepted", "rejected"} <= set(Counter(_verdicts(tables_url).values())), f"seed {seed}"
    _check_current_state(tables_url, stories)
    assert not dump(tables_url)["halted_rooms"]


def test_every_way_of_batching_decides_alike(tables_url: str, tmp_path: Path) -> None:
    _, facts = traffic(random.Random(5), rooms=3, length=8)
    expected: object = None
    for number, (size, work_s) in enumerate(((1000, 9.0), (1, 9.0), (5, 9.0), (1000, 0.0), (1000, 0.002))):
        empty(tables_url)
        log = open_embedded(tmp_path / f"log{number}")
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        with running(log, connector(tables_url), records_max=size, work_s_max=work_s) as loop:
            append(log, facts)
            loop.catch_up()
        outcome = dump(tables_url), decisions_that_count(log)
        log.close()
        assert expected is None or outcome == expected, f"batches of {size}, {work_s} s"
        expected = outcome


def test_an_event_that_waited_is_new_where_it_woke(log: EmbeddedLog, tables_url: str) -> None:
    stories, facts = traffic(random.Random(1), rooms=2, length=20)
    parked_once = {
        decision.event_id
        for story in stories
        for decisions in story.driver.decided
        for decision in decisions
        if isinstance(decision, Verdict) and decision.verdict == "parked"
    }
    assert parked_once
    with running(log, connector(tables_url)) as loop:
        append(log, facts)
        loop.catch_up()
    connection = WriteConnection(tables_url, "g1")
    woken = connection.rows(
        "SELECT source, position FROM events WHERE event_id = ANY(%s) AND verdict = 'accepted'", (list(parked_once),)
    )
    connection.close()
    assert woken
    for source, position in woken:
        assert offset_of(position) > source, "its stream position is the step's that woke it"


def test_what_an_event_costs(log: EmbeddedLog, tables_url: str) -> None:
    room = numbered_room("12", 1)
    setup = list(room.tables.facts.values())
    message = room.send(user("alice"), "m.room.message", {"msgtype": "m.text", "body": "x" * 100})
    topic = room.send(user("alice"), "m.room.topic", {"topic": "x"}, "")
    join = room.send(user("bob"), "m.room.member", {"membership": "join"}, user("bob"))
    facts = {fact.event_id: fact for fact in room.tables.facts.values() if isinstance(fact, PduFact)}
    with running(log, connector(tables_url)) as loop:
        append(log, setup)
        loop.catch_up()
        costs = []
        for event in (message, topic, join):
            before = {name: len(rows) for name, rows in dump(tables_url).items()}
            statements: list[str] = []
            assert loop._connection is not None
            loop._connection.on_statement = statements.append
            append(log, [facts[event.event_id]])
            loop.catch_up()
            after = {name: len(rows) for name, rows in dump(tables_url).items()}
            costs.append({name: after[name] - before[name] for name in after if after[name] != before[name]})
            if event is not message:
                continue
            # Take positions; write and commit: a round trip each.
            assert len(statements) == 2, statements
    assert costs == [
        {"events": 1},
        {
            "events": 1,
            "states": 1,
            "state_deltas": costs[1]["state_deltas"],
            "current_state": 1,
            "current_state_deltas": 1,
            "auth_chains": 1,
            "auth_chain_links": 1,
        },
        {
            "events": 1,
            "states": 1,
            "state_deltas": costs[2]["state_deltas"],
            "current_state": 1,
            "current_state_deltas": 1,
            "room_memberships": 1,
            "local_current_membership": 1,
            "auth_chains": 1,
            "auth_chain_links": 1,
        },
    ]
    connection = WriteConnection(tables_url, "g1")
    (size,) = connection.one("SELECT pg_column_size(e.*) FROM events e WHERE event_id = %s", (message.event_id,)) or (
        0,
    )
    connection.close()
    assert 400 < size < 1_600


def test_an_event_comes_back_from_the_tables_as_it_was(log: EmbeddedLog, tables_url: str) -> None:
    _, facts = traffic(random.Random(6), rooms=3, length=10)
    with running(log, connector(tables_url)) as loop:
        append(log, facts)
        loop.catch_up()
    connection = WriteConnection(tables_url, "g1")
    rows = {
        e: (c, f, v)
        for e, c, f, v in connection.rows("SELECT event_id, client_json, federation_json, room_version FROM events")
    }
    connection.close()
    pdus = [fact for fact in facts if isinstance(fact, PduFact) and fact.event_id in rows]
    assert len(pdus) > 20
    for fact in pdus:
        client, federation, version = rows[fact.event_id]
        joined = join_event(client, federation, ROOM_VERSIONS[version])
        assert canonical_bytes(joined) == canonical_bytes(event_in(fact).pdu)

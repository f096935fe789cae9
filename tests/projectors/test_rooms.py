"""Rooms, with the real machine: the tables hold what the machine decided, however the log is cut."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.event_json import join_event
from annals.projectors.rooms.fold import event_in
from annals.schemas.facts.rooms import PduFact
from tests.support.projectors import append, connector, dump, empty, running
from tests.support.room_traffic import RoomStory, traffic
from annals.database.text import restore


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


@pytest.mark.parametrize("seed", [1, 2])
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


def test_every_way_of_batching_decides_alike(log: EmbeddedLog, tables_url: str) -> None:
    _, facts = traffic(random.Random(5), rooms=3, length=14)
    append(log, facts)
    expected = None
    for size, work_s in ((1000, 9.0), (1, 9.0), (5, 9.0), (1000, 0.0)):
        empty(tables_url)
        with running(log, connector(tables_url), owner=f"o{size}{work_s}", records_max=size, work_s_max=work_s) as loop:
            loop.catch_up()
        tables = dump(tables_url)
        assert expected is None or tables == expected, f"batches of {size}"
        expected = tables


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

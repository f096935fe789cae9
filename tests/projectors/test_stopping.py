"""A room that fails stops alone; a record that nobody reads stops its partition; both go on when somebody says so."""

from __future__ import annotations

import random
from typing import Any

import pytest

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Append
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.rooms import batch as batch_module
from annals.schemas.facts.operations import UndecodableSkipped
from annals.schemas.facts.rooms import PduFact, RoomResumed
from tests.support.projectors import append, append_of, connector, dump, empty, envelope, running, simple_facts
from tests.support.room_traffic import traffic


def _count(url: str, sql: str, *params: Any) -> int:
    connection = WriteConnection(url, "g1")
    try:
        return int(connection.rows(sql, params)[0][0])
    finally:
        connection.close()


@pytest.mark.parametrize("where", ["decide", "fold_step"])
def test_a_room_that_fails_stops_alone(
    log: EmbeddedLog, tables_url: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    stories, facts = traffic(random.Random(21), rooms=3, length=8)
    bad = stories[0]
    poison = [fact for fact in bad.facts if isinstance(fact, PduFact)][7].event_id
    real = getattr(batch_module, where)

    def failing(first: Any, *arguments: Any) -> Any:
        fact = first.fact if where == "fold_step" else arguments[0]
        # Not where the failure itself is recorded.
        is_halt = where == "fold_step" and type(arguments[0][0]).__name__ == "Halted"
        if getattr(fact, "event_id", None) == poison and not is_halt:
            raise RuntimeError("no fold for this")
        return real(first, *arguments)

    monkeypatch.setattr(batch_module, where, failing)
    offsets = append(log, facts)
    halted_at = next(o for o, f in zip(offsets, facts, strict=True) if getattr(f, "event_id", None) == poison)
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
        assert not loop.stopped
        tables = dump(tables_url)
        (halted,) = tables["halted_rooms"]
        assert halted[0] == bad.driver.room_id
        assert halted_at in halted
        for story in stories[1:]:
            others = len(story.driver.tables.events)
            assert _count(tables_url, "SELECT count(*) FROM events WHERE room_id = %s", story.driver.room_id) == others

        # The fault is mended, and an operator lets the room go on: all that waited is decided.
        monkeypatch.undo()
        append(log, [RoomResumed(envelope(), bad.driver.room_id, "op", "mended", ())])
        loop.catch_up()
    lived = dump(tables_url)
    assert not lived["halted_rooms"]
    assert len(lived["events"]) == sum(len(story.driver.tables.events) for story in stories)

    empty(tables_url)
    with running(log, connector(tables_url), owner="rebuild") as loop:
        loop.catch_up()
    assert dump(tables_url) == lived


def test_an_operator_may_leave_the_fact_out(log: EmbeddedLog, tables_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stories, facts = traffic(random.Random(22), rooms=1, length=6)
    poison = [fact for fact in facts if isinstance(fact, PduFact)][-1]
    real = getattr(batch_module, "decide")  # noqa: B009 (it is imported there, not exported)

    def failing(view: Any, fact: Any, offset: int, epoch: int) -> Any:
        if getattr(fact, "event_id", None) == poison.event_id:
            raise RuntimeError("for ever")
        return real(view, fact, offset, epoch)

    monkeypatch.setattr(batch_module, "decide", failing)
    offsets = append(log, facts)
    skipped = tuple(o for o, f in zip(offsets, facts, strict=True) if getattr(f, "event_id", "") == poison.event_id)
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
        assert dump(tables_url)["halted_rooms"]
        append(log, [RoomResumed(envelope(), stories[0].driver.room_id, "op", "left out", skipped)])
        loop.catch_up()
        tables = dump(tables_url)
    assert not tables["halted_rooms"]
    assert not tables["waiting_facts"]
    assert poison.event_id not in {row[1] for row in tables["events"]}


def test_a_record_that_cannot_be_decoded_stops_its_partition_until_it_is_skipped(
    log: EmbeddedLog, tables_url: str
) -> None:
    good = simple_facts(random.Random(23), 30)
    bad = next(append_of(log, fact) for fact in good if append_of(log, fact).topic == "users")
    append(log, good[:10])
    (offset,) = log.append([Append(bad.topic, bad.partition, bad.key, b"\xc3\x01junkjunk and more")]).result()
    append(log, good[10:])
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
        (stopped,) = loop.stopped
        assert stopped == ("users", "users", bad.partition)
        assert loop.positions[stopped] == offset
        others = {key: at for key, at in loop.positions.items() if key != stopped}
        assert all(at == log.end(topic, partition) for (_, topic, partition), at in others.items())
        append(log, [UndecodableSkipped(envelope(), "users", bad.partition, offset, "op", "junk")])
        loop.catch_up()
        assert not loop.stopped
        assert loop.positions[stopped] == log.end("users", bad.partition)
        lived = dump(tables_url)
    empty(tables_url)
    with running(log, connector(tables_url), owner="rebuild") as loop:
        loop.catch_up()
    assert dump(tables_url) == lived

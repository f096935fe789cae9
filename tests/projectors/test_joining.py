"""`Loop.run` among others: who loses his place joins anew; who must not go on says why, and leaves."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pytest

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log, Record, Tail, TopicPartition
from annals.eventlog.embedded import EmbeddedLog
from annals.eventlog.errors import LogUnavailable, PositionBeyondEnd
from annals.projectors.errors import GroupPartition, LogWentBack, NewerDecideVersion
from annals.projectors.groups import GROUPS
from annals.projectors.loop import Loop, Settings
from annals.projectors.share import keys_of
from tests.support.decisions import decisions_that_count
from tests.support.patience import PATIENCE_S
from tests.support.projectors import SERVER_NAME, append, connector, dump, simple_facts
from tests.support.room_traffic import traffic
from tests.support.shared_log import Coordinator, MemberLog
from tests.support.waiting import until


class FaultyLog(MemberLog):
    """A member's log: `fault` is raised by the next polls of its tails, `shorter` is where its partitions end."""

    fault: Exception | None = None
    faults = 0
    shorter: Mapping[TopicPartition, int] = {}
    renumbered = 0

    def end(self, topic: str, partition: int) -> int:
        return min(self._log.end(topic, partition), self.shorter.get((topic, partition), 1 << 60))

    def tail(self, positions: Mapping[TopicPartition, int]) -> Tail:
        return cast(Tail, _FaultyTail(self, self._log.tail(positions)))

    def append(self, records: Any) -> Any:
        future = self._log.append(records)
        if not self.renumbered or not records or not records[0].topic.startswith("decisions"):
            return future
        offsets = [offset - self.renumbered for offset in future.result()]
        future = type(future)()
        future.set_result(offsets)
        return future

    def append_here(self, records: Any) -> Any:
        return self.append(records).result()


class _FaultyTail:
    def __init__(self, log: FaultyLog, tail: Tail) -> None:
        self._log, self._tail = log, tail

    def poll(self, timeout_s: float | None, max_records: int = 1000) -> list[Record]:
        if self._log.fault is not None and self._log.faults:
            self._log.faults -= 1
            raise self._log.fault
        return self._tail.poll(timeout_s, max_records)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tail, name)


class Running:
    """A loop that runs in a thread; `error` is what it ended with."""

    def __init__(self, log: MemberLog, url: str, name: str) -> None:
        self.log = log
        self.error: Exception | None = None
        # Who joins ends nobody's connection who is about to learn of it: two that do so to each other may never end.
        settings = Settings("g1", SERVER_NAME, name, release_wait_s=PATIENCE_S, records_max=40)
        self.loop = Loop(cast(Log, log), connector(url), settings)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except Exception as error:
            self.error = error

    def end(self) -> Exception | None:
        """Wait until it ends by itself."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.error

    def stop(self) -> None:
        """End it."""
        self.loop.stop()
        self.end()


@contextmanager
def two_run(log: EmbeddedLog, url: str) -> Iterator[tuple[Coordinator, Running, Running]]:
    """Two loops, and a coordinator that spreads all partitions over who is there."""
    coordinator = Coordinator(balances=True)
    both = Running(FaultyLog(log, coordinator, "a"), url, "a"), Running(FaultyLog(log, coordinator, "b"), url, "b")
    try:
        until(lambda: _shared(log, [running.loop.positions for running in both]))
        yield coordinator, *both
    finally:
        for running in both:
            running.stop()


def _shared(log: EmbeddedLog, held: list[Mapping[GroupPartition, int]]) -> bool:
    """Whether each has some, and each partition is one's: a moment before, one may still believe that it has all."""
    keys = [key for positions in held for key in positions]
    return all(held) and sorted(keys) == sorted(keys_of(log, GROUPS))


def reached(log: EmbeddedLog, url: str) -> bool:
    """Whether the tables have all."""
    rows = next_offsets(url)
    return bool(rows) and all(log.end(topic, partition) == offset for topic, partition, offset in rows)


def next_offsets(url: str) -> list[tuple[Any, ...]]:
    """Topic, partition, offset of all that the tables follow."""
    connection = WriteConnection(url, "g1")
    try:
        return connection.rows("SELECT topic, partition, next_offset FROM positions")
    finally:
        connection.close()


def sql(url: str, statement: str) -> None:
    """Run a statement on the generation."""
    connection = WriteConnection(url, "g1")
    connection.execute(statement)
    connection.close()


def facts_of(seed: int) -> list[Any]:
    rng = random.Random(seed)
    return [*traffic(rng, rooms=3, length=6)[1], *simple_facts(rng, 20)]


def test_one_leaves_and_the_other_has_all(log: EmbeddedLog, tables_url: str) -> None:
    with two_run(log, tables_url) as (_, a, b):
        facts = facts_of(1)
        append(log, facts[::2])
        a.stop()
        append(log, facts[1::2])
        until(lambda: reached(log, tables_url))
        assert {key[2] for key in b.loop.positions if key[0] == "rooms"} == set(range(8))
        decided = decisions_that_count(log)
        assert len({(d.room_id, d.position) for d in decided}) == len(decided)


def test_who_lost_its_rows_joins_anew_and_takes_what_it_is_given(log: EmbeddedLog, tables_url: str) -> None:
    with two_run(log, tables_url) as (coordinator, a, b):
        append(log, facts_of(2))
        until(lambda: reached(log, tables_url))
        joins = dict(coordinator.joins)
        # Both are fenced off, as if others had taken all of it.
        sql(tables_url, "UPDATE positions SET epoch = epoch + 1")
        append(log, facts_of(3))
        until(lambda: reached(log, tables_url))
        until(lambda: all(coordinator.joins[name] > joins[name] for name in joins))
        until(lambda: len(a.loop.positions) + len(b.loop.positions) == len(next_offsets(tables_url)))
        assert not a.loop.positions.keys() & b.loop.positions.keys()
        assert a.error is None
        assert b.error is None


@pytest.mark.parametrize("fault", [LogUnavailable("gone"), PositionBeyondEnd("rooms", 0, 5, 4)])
def test_a_fault_that_passes_is_outlived(log: EmbeddedLog, tables_url: str, fault: Exception) -> None:
    """A position that lies within the log after all is no reason to stop either."""
    with two_run(log, tables_url) as (coordinator, a, b):
        joins = dict(coordinator.joins)
        for running in (a, b):
            faulty = cast(FaultyLog, running.log)
            faulty.fault, faulty.faults = fault, 2
        append(log, facts_of(4))
        until(lambda: all(coordinator.joins[name] >= joins[name] + 2 for name in joins))
        until(lambda: reached(log, tables_url))
        assert (a.error, b.error) == (None, None)


def test_who_is_taken_for_dead_joins_anew(log: EmbeddedLog, tables_url: str) -> None:
    with two_run(log, tables_url) as (coordinator, a, _):
        joins = coordinator.joins["a"]
        coordinator.expel("a")
        until(lambda: coordinator.joins["a"] > joins)
        append(log, facts_of(5))
        until(lambda: reached(log, tables_url))
        assert a.error is None


def test_a_log_that_ends_before_the_tables_stops_with_instructions(log: EmbeddedLog, tables_url: str) -> None:
    with two_run(log, tables_url) as (coordinator, a, _):
        append(log, facts_of(6))
        until(lambda: reached(log, tables_url))
        before = dump(tables_url)
        _, topic, partition = next(key for key, offset in a.loop.positions.items() if offset)
        faulty = cast(FaultyLog, a.log)
        faulty.shorter = {(topic, partition): 0}
        faulty.fault, faulty.faults = PositionBeyondEnd(topic, partition, 1, 0), 1
        error = a.end()
        assert isinstance(error, LogWentBack)
        assert "restore the log" in str(error)
        assert "a" not in coordinator.members
        assert dump(tables_url) == before


def test_decisions_made_anew_stop_with_instructions(log: EmbeddedLog, tables_url: str) -> None:
    """Their topic was removed while the loop ran: what it appends now begins at 0 again."""
    coordinator = Coordinator()
    coordinator.assign("a", [("rooms", number) for number in range(8)])
    member = FaultyLog(log, coordinator, "a")
    running = Running(member, tables_url, "a")
    append(log, facts_of(7))
    until(lambda: sum(offset for key, offset in running.loop.positions.items()) == sum(log.ends("rooms")))
    before = dump(tables_url)
    member.renumbered = max(log.ends("decisions.g1"))
    append(log, facts_of(7))
    error = running.end()
    assert isinstance(error, LogWentBack)
    assert "decisions.g1" in str(error)
    assert dump(tables_url) == before


def test_decisions_that_the_tables_cannot_have_stop_with_instructions(log: EmbeddedLog, tables_url: str) -> None:
    """A topic that was made anew and has grown since: the record before the position is another."""
    coordinator = Coordinator()
    coordinator.assign("a", [("rooms", number) for number in range(8)])
    running = Running(FaultyLog(log, coordinator, "a"), tables_url, "a")
    append(log, facts_of(8))
    until(lambda: sum(offset for key, offset in running.loop.positions.items()) == sum(log.ends("rooms")))
    running.stop()
    for number, end in enumerate(log.ends("decisions.g1")):
        sql(
            tables_url,
            f"UPDATE positions SET next_offset = 0, last_hash = NULL, epoch = 1, decisions_offset = {end}"
            f" WHERE group_name = 'rooms' AND partition = {number}",
        )
    error = Running(FaultyLog(log, coordinator, "a"), tables_url, "a").end()
    assert isinstance(error, LogWentBack)
    assert "decisions.g1" in str(error)


def test_a_newer_release_is_not_overruled(log: EmbeddedLog, tables_url: str) -> None:
    coordinator = Coordinator(balances=True)
    first = Running(FaultyLog(log, coordinator, "a"), tables_url, "a")
    until(lambda: len(first.loop.positions) > 20)
    sql(tables_url, "UPDATE positions SET decide_version = 999 WHERE partition = 3")
    second = Running(FaultyLog(log, coordinator, "b"), tables_url, "b")
    error = second.end()
    assert isinstance(error, NewerDecideVersion)
    assert "999" in str(error)
    # It left: the other, which had them, has all.
    append(log, facts_of(9))
    until(lambda: "b" not in coordinator.members)
    first.stop()

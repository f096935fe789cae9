"""A replay decides what comes next while what it decided is written: the tables are as if one came after the other."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors import rebuild
from annals.projectors.ahead import Ahead
from annals.projectors.errors import FenceLost
from annals.projectors.rebuild import Progress, replay
from annals.projectors.transaction import Job, Transactions
from tests.support.decisions import decisions_that_count
from tests.support.patience import PATIENCE_S
from tests.support.projectors import SERVER_NAME, append, connector, dump, running, simple_facts
from tests.support.room_traffic import traffic


@pytest.fixture
def lived(log: EmbeddedLog, tables_url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of g1, which decided rooms of several partitions, and other groups, as they came."""
    rng = random.Random(51)
    _, facts = traffic(rng, rooms=4, length=10)
    append(log, [*facts, *simple_facts(rng, 40)])
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
    return dump(tables_url)


def test_what_comes_next_is_decided_while_a_batch_is_written(
    log: EmbeddedLog, tables_url: str, lived: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, run = Ahead.decide, Transactions.run
    begun: list[frozenset[Any]] = []
    first_waits, next_is_decided = threading.Event(), threading.Event()

    def told_decide(self: Ahead, batch: Any, work_s_max: float) -> Any:
        begun.append(frozenset(job.worker.key for job in batch.jobs))
        decided = decide(self, batch, work_s_max)
        if len(begun) == 2:
            assert first_waits.wait(PATIENCE_S)
            next_is_decided.set()
        return decided

    def waiting_run(self: Transactions, jobs: Sequence[Job], *arguments: float) -> Any:
        # Who decides cannot wait for itself.
        assert threading.current_thread() is not threading.main_thread()
        first_waits.set()
        assert next_is_decided.wait(PATIENCE_S)
        return run(self, jobs, *arguments)

    monkeypatch.setattr(rebuild, "RECORDS_MAX", 20)
    monkeypatch.setattr(Ahead, "decide", told_decide)
    monkeypatch.setattr(Transactions, "run", waiting_run)
    replay(log, tables_url, "g2", "recompute", SERVER_NAME)
    assert begun[0].isdisjoint(begun[1])
    assert dump(tables_url, "g2") == lived
    assert decisions_that_count(log, "g2") == decisions_that_count(log, "g1")


@pytest.mark.parametrize("records_max", [5, 5_000])
def test_batches_of_any_size_make_the_same_tables(
    log: EmbeddedLog, tables_url: str, lived: object, monkeypatch: pytest.MonkeyPatch, records_max: int
) -> None:
    monkeypatch.setattr(rebuild, "RECORDS_MAX", records_max)
    progress: list[Progress] = []
    end = replay(log, tables_url, "g2", "recompute", SERVER_NAME, on_progress=progress.append)
    assert end.done == end.total == progress[-1].done
    assert [one.done for one in progress] == sorted(one.done for one in progress)
    assert dump(tables_url, "g2") == lived
    assert decisions_that_count(log, "g2") == decisions_that_count(log, "g1")


def test_what_could_not_be_written_is_decided_again(
    log: EmbeddedLog, tables_url: str, lived: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, numbers = Transactions.run, itertools.count()

    class Failed(Exception):
        pass

    def fail_once(self: Transactions, jobs: Sequence[Job], *arguments: float) -> Any:
        if next(numbers) == 2:
            raise Failed
        return run(self, jobs, *arguments)

    monkeypatch.setattr(rebuild, "RECORDS_MAX", 20)
    monkeypatch.setattr(Transactions, "run", fail_once)
    with pytest.raises(Failed):
        replay(log, tables_url, "g2", "recompute", SERVER_NAME)
    assert next(numbers) == 3
    replay(log, tables_url, "g2", "recompute", SERVER_NAME)
    assert dump(tables_url, "g2") == lived
    assert decisions_that_count(log, "g2") == decisions_that_count(log, "g1")


def test_what_was_decided_before_another_took_the_partition_is_not_written(
    log: EmbeddedLog, tables_url: str, lived: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence is taken with the rows: between looking up and writing, anybody may have come."""
    write = Ahead.write
    taken: list[int] = []

    def taken_before(self: Ahead, batch: Any, applied: Any) -> None:
        if not taken:
            taken.append(batch.offered)
            operator = WriteConnection(tables_url, "g2")
            operator.execute("UPDATE positions SET epoch = epoch + 1")
            operator.close()
        write(self, batch, applied)

    monkeypatch.setattr(Ahead, "write", taken_before)
    with pytest.raises(FenceLost):
        replay(log, tables_url, "g2", "recompute", SERVER_NAME)
    assert taken != [0]
    assert not dump(tables_url, "g2")["events"]


def test_who_asks_for_a_share_of_the_time_has_one_thing_done_at_a_time(
    log: EmbeddedLog, tables_url: str, lived: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Ahead, "__init__", never)
    replay(log, tables_url, "g2", "recompute", SERVER_NAME, cpu_share=0.9)
    assert dump(tables_url, "g2") == lived

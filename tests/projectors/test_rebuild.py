"""A generation filled from the log equals the one that lived."""

from __future__ import annotations

import itertools
import json
import random
import threading
from contextlib import closing
from typing import Any

import pytest

from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors import refolding
from annals.projectors.left_out import RESUME
from annals.projectors.rebuild import Mode, Progress, replay
from annals.projectors.rooms.worker import Folded, RoomsWorker
from annals.rooms import machine
from annals.rooms.step import Step
from annals.schemas.facts.operations import AdminCommanded
from annals.schemas.facts.rooms import PduFact, RoomFact, RoomResumed
from tests.support.decisions import decisions_that_count
from tests.support.patience import PATIENCE_S
from tests.support.projectors import SERVER_NAME, append, connector, dump, envelope, running, simple_facts
from tests.support.room_traffic import traffic


@pytest.mark.parametrize(("mode", "source"), [("fold", "g1"), ("recompute", None)])
def test_a_rebuilt_generation_equals_the_one_that_lived(
    log: EmbeddedLog, tables_url: str, mode: Mode, source: str | None
) -> None:
    rng = random.Random(41)
    _, facts = traffic(rng, rooms=3, length=10)
    with running(log, connector(tables_url), records_max=30) as loop:
        append(log, [*facts, *simple_facts(rng, 40)])
        loop.catch_up()
    progress: list[Progress] = []
    end = replay(log, tables_url, "g2", mode, SERVER_NAME, source_generation=source, on_progress=progress.append)
    assert end.done == end.total
    assert progress
    assert dump(tables_url, "g2") == dump(tables_url, "g1")
    assert decisions_that_count(log, "g2") == decisions_that_count(log, "g1")


def test_a_fold_that_is_interrupted_goes_on(log: EmbeddedLog, tables_url: str) -> None:
    decide_some(log, tables_url, seed=42, rooms=2, length=12)

    class Interrupted(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        replay(log, tables_url, "g2", "fold", SERVER_NAME, source_generation="g1", on_progress=interrupt)
    replay(log, tables_url, "g2", "fold", SERVER_NAME, source_generation="g1")
    assert dump(tables_url, "g2") == dump(tables_url, "g1")
    assert decisions_that_count(log, "g2") == decisions_that_count(log, "g1")


def test_a_fold_whose_write_fails_is_taken_up_again(
    log: EmbeddedLog, tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide_some(log, tables_url, seed=43, rooms=2, length=12)

    class Failed(Exception):
        pass

    run, numbers = refolding._run, itertools.count()

    def fail_once(*arguments: Any) -> None:
        if next(numbers) == 3:
            raise Failed
        run(*arguments)

    # While the fourth is written, in another thread, the fifth is folded already.
    monkeypatch.setattr(refolding, "COPIED_STEPS_MAX", 4)
    monkeypatch.setattr(refolding, "_run", fail_once)
    with pytest.raises(Failed):
        replay(log, tables_url, "g2", "fold", SERVER_NAME, source_generation="g1")
    replay(log, tables_url, "g2", "fold", SERVER_NAME, source_generation="g1")
    assert next(numbers) > 6
    assert dump(tables_url, "g2") == dump(tables_url, "g1")
    assert decisions_that_count(log, "g2") == decisions_that_count(log, "g1")


def test_the_next_partition_is_folded_while_the_last_steps_of_one_are_written(
    log: EmbeddedLog, tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide_some(log, tables_url, seed=45, rooms=4, length=4)
    fold, run = RoomsWorker.fold, refolding._run
    folded: list[int] = []
    next_is_folded = threading.Event()

    def told_fold(self: RoomsWorker, *arguments: Any) -> Folded:
        done = fold(self, *arguments)
        folded.append(self.key[2])
        if len(folded) == 2:
            next_is_folded.set()
        return done

    def waiting_run(*arguments: Any) -> None:
        assert next_is_folded.wait(PATIENCE_S)
        run(*arguments)

    monkeypatch.setattr(RoomsWorker, "fold", told_fold)
    monkeypatch.setattr(refolding, "_run", waiting_run)
    replay(log, tables_url, "g2", "fold", SERVER_NAME, source_generation="g1")
    # A transaction each, as they are short.
    assert len(set(folded)) == len(folded) > 1
    assert dump(tables_url, "g2") == dump(tables_url, "g1")


def test_what_an_operator_left_out_is_not_decided_anew(
    log: EmbeddedLog, tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, facts = traffic(random.Random(44), rooms=1, length=12)
    last = max(index for index, fact in enumerate(facts) if isinstance(fact, PduFact))
    left_out, apply_fact = facts[last], machine.apply_fact
    assert isinstance(left_out, PduFact)

    def fail_on_it(step: Step, fact: RoomFact, source: int) -> None:
        if fact == left_out:
            raise RuntimeError("a defect")
        apply_fact(step, fact, source)

    monkeypatch.setattr(machine, "apply_fact", fail_on_it)
    with running(log, connector(tables_url)) as loop:
        offset = append(log, facts[: last + 1])[-1]
        loop.catch_up()
        assert _rows(tables_url, "g1", "SELECT source FROM halted_rooms") == [(offset,)]
        arguments = json.dumps({"room_id": left_out.room_id, "skip": [offset]}).encode()
        command = AdminCommanded(envelope(), "olga", RESUME, arguments, "a test")
        append(log, [command, RoomResumed(envelope(), left_out.room_id, "olga", "a test", (offset,))])
        loop.catch_up()
    monkeypatch.undo()
    assert _rows(tables_url, "g1", "SELECT source FROM halted_rooms") == []
    replay(log, tables_url, "g2", "recompute", SERVER_NAME)
    for query in (
        "SELECT type, state_key, event_id FROM current_state",
        "SELECT event_id, verdict FROM events",
        "SELECT event_id FROM forward_extremities",
    ):
        rows = _rows(tables_url, "g2", query)
        assert rows
        assert rows == _rows(tables_url, "g1", query)
    assert (left_out.event_id,) not in _rows(tables_url, "g2", "SELECT event_id FROM events")


def _rows(url: str, generation: str, query: str) -> list[tuple[Any, ...]]:
    with closing(WriteConnection(url, generation)) as connection:
        return sorted(connection.rows(query))


def test_a_generation_is_not_its_own_source(log: EmbeddedLog, tables_url: str) -> None:
    with pytest.raises(ValueError):
        replay(log, tables_url, "g1", "fold", SERVER_NAME, source_generation="g1")


def decide_some(log: EmbeddedLog, tables_url: str, *, seed: int, rooms: int, length: int) -> None:
    """Traffic onto the log, and into g1."""
    _, facts = traffic(random.Random(seed), rooms=rooms, length=length)
    with running(log, connector(tables_url)) as loop:
        append(log, facts)
        loop.catch_up()

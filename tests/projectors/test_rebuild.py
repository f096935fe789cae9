"""A generation filled from the log equals the one that lived."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from annals.eventlog.embedded import EmbeddedLog
from annals.projectors import refolding
from annals.projectors.rebuild import Mode, Progress, replay
from tests.support.decisions import decisions_that_count
from tests.support.projectors import SERVER_NAME, append, connector, dump, running, simple_facts
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
    _, facts = traffic(random.Random(42), rooms=2, length=12)
    with running(log, connector(tables_url)) as loop:
        append(log, facts)
        loop.catch_up()

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
    _, facts = traffic(random.Random(43), rooms=2, length=12)
    with running(log, connector(tables_url)) as loop:
        append(log, facts)
        loop.catch_up()

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


def test_a_generation_is_not_its_own_source(log: EmbeddedLog, tables_url: str) -> None:
    with pytest.raises(ValueError):
        replay(log, tables_url, "g1", "fold", SERVER_NAME, source_generation="g1")

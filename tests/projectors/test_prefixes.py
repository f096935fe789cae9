"""Every prefix of a log has its own tables, however it got there; a record that comes again changes nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.projectors.loop import Loop
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.projectors import append, connector, dump, empty, running, simple_facts
from tests.support.room_traffic import traffic

Tables = dict[str, list[tuple[Any, ...]]]


def _facts(kind: str, rng: random.Random) -> Sequence[Any]:
    return simple_facts(rng, 8) if kind == "simple" else traffic(rng, rooms=2, length=3)[1]


@pytest.mark.parametrize("kind", ["simple", "rooms"])
def test_every_prefix_of_a_log_makes_the_tables_that_lived_then(
    log: EmbeddedLog, tables_url: str, tmp_path: Path, kind: str, rng: random.Random
) -> None:
    facts = _facts(kind, rng)
    lived: list[Tables] = []
    with running(log, connector(tables_url)) as loop:
        for fact in facts:
            append(log, [fact])
            loop.catch_up()
            lived.append(dump(tables_url))
    for length, expected in enumerate(lived, start=1):
        made = _made_of_prefix(tmp_path / f"prefix{length}", facts[:length], tables_url, rng.randint(1, length))
        assert made == expected, f"the first {length} of {len(facts)} facts"


def _made_of_prefix(directory: Path, facts: Sequence[Any], url: str, batch: int) -> Tables:
    """The tables of a log that holds these facts and no more, folded in batches of one size."""
    log = open_embedded(directory)
    try:
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        append(log, facts)
        empty(url)
        with running(log, connector(url), records_max=batch) as loop:
            loop.catch_up()
        return dump(url)
    finally:
        log.close()


@pytest.mark.parametrize("kind", ["simple", "rooms"])
@pytest.mark.parametrize("again", [1, 3, 1_000])
def test_the_last_records_delivered_again_change_nothing(
    log: EmbeddedLog, tables_url: str, kind: str, again: int, rng: random.Random
) -> None:
    append(log, _facts(kind, rng))
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
        before, positions = dump(tables_url), dict(loop.positions)
        decisions = _decisions(log)
        _deliver_again(loop, again)
        loop.catch_up()
        assert dump(tables_url) == before
        assert loop.positions == positions
        assert _decisions(log) == decisions
        # It goes on behind what came twice.
        append(log, _facts(kind, random.Random(99)))
        loop.catch_up()
        assert loop.positions != positions


def _deliver_again(loop: Loop, again: int) -> None:
    tail = loop._reader._tail
    assert tail is not None
    for (_, topic, partition), offset in loop.positions.items():
        tail.seek(topic, partition, max(0, offset - again))


def _decisions(log: EmbeddedLog) -> list[int]:
    return list(log.ends(decisions_topic("g1").name))

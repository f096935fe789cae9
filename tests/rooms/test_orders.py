"""The order in which events come: what depends on it, and what must not."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from annals.schemas.facts.decisions import Verdict
from tests.support.room_oracle import Oracle
from tests.support.room_weaver import VERSIONS, driver_of, topological_order, woven
from tests.support.rooms import Driver, MemoryTables
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)


def _per_event(tables: MemoryTables) -> dict[str, tuple[bool, Any, Any]]:
    """By event: whether it was rejected, the state before it and the one after it."""
    found = {}
    for event_id, row in tables.events.items():
        verdict: Verdict = row["verdict"]
        assert verdict.verdict in ("accepted", "soft_failed", "rejected")
        before, after = tables.state_map(verdict.state_before), tables.state_map(verdict.state_after)
        found[event_id] = verdict.verdict == "rejected", before, after
    return found


def _soft_fails(driver: Driver) -> bool:
    return any(row["verdict"].verdict == "soft_failed" for row in driver.tables.events.values())


def _assert_nothing_is_left(driver: Driver) -> None:
    assert driver.tables.wanted == set()
    header = driver.view.known_header()
    assert (len(header.parked), len(header.waiting_for), header.wanted) == (0, 0, frozenset())


@few_examples(10)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(1, 45))
def test_any_topological_order(seed: int, version: str, length: int) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    one, other = driver_of(weaver, weaver.events), driver_of(weaver, topological_order(rng, weaver.events))
    assert _per_event(one.tables) == _per_event(other.tables)
    if not _soft_fails(one) and not _soft_fails(other):
        assert one.tables.extremities.keys() == other.tables.extremities.keys()
        assert one.tables.current == other.tables.current
        assert one.tables.room["min_depth"] == other.tables.room["min_depth"]


@few_examples(10)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(1, 45))
def test_any_order_at_all(seed: int, version: str, length: int) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    shuffled = rng.sample(weaver.events, len(weaver.events))
    one, other = driver_of(weaver, weaver.events), driver_of(weaver, shuffled)
    assert _per_event(one.tables) == _per_event(other.tables)
    _assert_nothing_is_left(other)
    if not _soft_fails(one) and not _soft_fails(other):
        assert one.tables.extremities.keys() == other.tables.extremities.keys()
        assert one.tables.current == other.tables.current


@few_examples(10)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(5, 45))
def test_any_order_is_that_of_its_judging(seed: int, version: str, length: int) -> None:
    """Soft failures included: the oracle, told the events in the order in which they were judged, says the same."""
    weaver, rng = woven(seed, version, length), Random(seed)
    driver = driver_of(weaver, rng.sample(weaver.events, len(weaver.events)))
    events = {event.event_id: event for event in weaver.events}
    oracle = Oracle(weaver.rules)
    for step in driver.decided:
        for decision in step:
            if isinstance(decision, Verdict) and decision.verdict != "parked":
                assert oracle.receive(events[decision.event_id]) == decision.verdict
    assert oracle.extremities == driver.tables.extremities.keys()
    assert oracle.current == driver.tables.current


@few_examples(4)
@given(SEEDS, st.sampled_from(VERSIONS))
def test_the_oracle_sees_every_verdict(seed: int, version: str) -> None:
    """The rooms are worth it: they fork and reject; this fails where the weaver has become tame."""
    rooms = [woven(seed + n, version, 40) for n in range(3)]
    verdicts = {verdict for room in rooms for verdict in room.oracle.verdicts.values()}
    assert {"accepted", "rejected"} <= verdicts
    assert any(len(event.prev_events) > 1 for room in rooms for event in room.events)
    assert any(len({*map(str, room.oracle.after.values())}) > 10 for room in rooms)

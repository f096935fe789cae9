"""A room in which the pure code fails stands still, alone, and goes on as if nothing had been."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.rooms import machine
from annals.rooms.step import Step
from annals.schemas.facts.decisions import Decision, Halted, Resumed, Skipped, Verdict, Waiting
from annals.schemas.facts.rooms import PduFact, RoomFact, RoomResumed
from tests.support.room_weaver import ALICE, VERSIONS, Weaver, driver_of, plain_room, woven
from tests.support.rooms import Driver, created, envelope, fetched, received
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)
_apply_fact = machine.apply_fact


class Defect(Exception):
    """What the tests break the machine with."""


def _fails_on(event_id: str) -> Any:
    def apply_fact(step: Step, fact: RoomFact, source: int) -> None:
        _apply_fact(step, fact, source)
        if isinstance(fact, PduFact) and fact.event_id == event_id:
            raise Defect(event_id)

    return apply_fact


def _feed(driver: Driver, *facts: RoomFact) -> None:
    """As a projector does: what fails halts the room."""
    for fact in facts:
        try:
            driver.feed(fact)
        except Defect as error:
            driver.halt(fact, f"{error!r}")


def _resume(driver: Driver, *skip: int) -> RoomResumed:
    return RoomResumed(envelope(), driver.room_id, "@admin:test", "fixed", skip)


def _broken(weaver: Weaver, events: list[Any], event_id: str, cold: bool) -> Driver:
    driver = Driver(weaver.room_id, cold=cold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "apply_fact", _fails_on(event_id))
        _feed(driver, *map(received, events))
    return driver


def _outcome(driver: Driver) -> Any:
    tables = driver.tables
    verdicts = {event_id: row["verdict"] for event_id, row in tables.events.items()}
    per_event = {e: (v.verdict, tables.state_map(v.state_before), v.source) for e, v in verdicts.items()}
    return per_event, set(tables.extremities), tables.current, tables.wanted, tables.room.get("min_depth")


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 25), st.booleans())
def test_resumed_without_skip_as_if_it_had_passed(seed: int, version: str, length: int, cold: bool) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    events = rng.sample(weaver.events, len(weaver.events))
    whole = driver_of(weaver, events)
    broken = _broken(weaver, events, rng.choice(events).event_id, cold)
    assert broken.tables.halted_at == broken.tables.waiting[0]
    broken.feed(_resume(broken))
    assert not broken.tables.waiting
    assert broken.view.known_header().halted_at is None
    assert _outcome(broken) == _outcome(whole)


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 25), st.booleans())
def test_resumed_with_skip_as_if_it_never_came(seed: int, version: str, length: int, cold: bool) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    events = rng.sample(weaver.events, len(weaver.events))
    bad = rng.randrange(len(events))
    broken = _broken(weaver, events, events[bad].event_id, cold)
    broken.feed(_resume(broken, bad))
    without = Driver(weaver.room_id)
    for offset, event in enumerate(events):
        without.offset = offset
        if offset != bad:
            without.feed(received(event))
    assert _outcome(broken) == _outcome(without)


@pytest.mark.parametrize("cold", [False, True])
def test_the_decisions_of_a_halt(cold: bool) -> None:
    weaver = plain_room()
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "x"}))
    driver = _broken(weaver, weaver.events, topic.event_id, cold)
    offset = driver.offset - 1
    (halted,) = driver.decided[-1]
    assert isinstance(halted, Halted)
    assert (halted.source, halted.error) == (offset, f"Defect('{topic.event_id}')")
    (waiting,) = driver.feed(created(weaver.build(("m.room.message", ALICE, None, {})), "txn"))
    assert isinstance(waiting, Waiting)
    decisions = driver.feed(_resume(driver, offset))
    kinds: list[type[Decision]] = [type(decision) for decision in decisions]
    # The message stands behind the topic that was skipped: as one of ours it is dropped.
    assert kinds == [Resumed, Skipped, Verdict]
    assert [decision.source for decision in decisions] == [offset + 2, offset, offset + 1]
    assert {decision.position >> 20 for decision in decisions} == {offset + 2}


@pytest.mark.parametrize("cold", [False, True])
def test_a_resumption_that_fails(cold: bool) -> None:
    weaver = plain_room()
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "x"}))
    driver = _broken(weaver, weaver.events, topic.event_id, cold)
    stands = driver.tables.halted_at, list(driver.tables.waiting)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "apply_fact", _fails_on(topic.event_id))
        _feed(driver, _resume(driver))
    assert (driver.tables.halted_at, driver.tables.waiting) == stands
    assert driver.view.known_header().waiting == tuple(stands[1])
    driver.feed(_resume(driver))
    assert driver.verdict(topic.event_id) == "accepted"


def test_a_room_that_does_not_stand_still() -> None:
    driver = driver_of(plain_room())
    (skipped,) = driver.feed(_resume(driver))
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "not_halted"


@pytest.mark.parametrize("cold", [False, True])
def test_any_fact_waits(cold: bool) -> None:
    weaver = plain_room()
    driver = _broken(weaver, weaver.events, weaver.events[-1].event_id, cold)
    nothing = received(weaver.events[0])
    object.__setattr__(nothing, "skeleton", b"not JSON")
    for fact in (nothing, received(weaver.events[0]), fetched(weaver.events[1], "state")):
        (decision,) = driver.feed(fact)
        assert isinstance(decision, Waiting)


@pytest.mark.parametrize("cold", [False, True])
def test_a_fact_that_changes_nothing_waits_no_more(cold: bool) -> None:
    weaver = plain_room()
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "x"}))
    driver = _broken(weaver, weaver.events, topic.event_id, cold)
    repeat = driver.offset
    driver.feed(received(weaver.events[0]))
    decisions = driver.feed(_resume(driver))
    (of_repeat,) = [decision for decision in decisions if decision.source == repeat]
    assert isinstance(of_repeat, Skipped)
    assert of_repeat.reason == "changes_nothing"

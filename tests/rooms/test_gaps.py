"""A gap below what we pulled: another server's answer gives the state before an event whose prev_events we lack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.schemas.facts import decisions as d
from annals.schemas.facts.rooms import GapAbandoned, StateSetChunk
from tests.support.room_weaver import ALICE, BOB, CAROL, MEMBER, VERSIONS, Weaver, driver_of, plain_room, woven
from tests.support.rooms import Driver, envelope, fetched, received
from tests.support.rooms_elsewhere import gap_facts, go_on
from tests.support.soak import few_examples

every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])
SEEDS = st.integers(0, 2**32 - 1)


def _verdict(driver: Driver, event_id: str) -> d.Verdict:
    verdict: d.Verdict = driver.tables.events[event_id]["verdict"]
    return verdict


def _gap(version: str) -> tuple[Weaver, Any, Any, Any]:
    """A room; what we do not see; the missing prev event; what comes behind it."""
    weaver = plain_room(version)
    unseen = weaver.add(("m.room.topic", ALICE, "", {"topic": "unseen"}))
    weaver.add((MEMBER, BOB, BOB, {"membership": "leave"}))
    missing = weaver.add(("m.room.message", CAROL, None, {"n": "missing"}))
    child = weaver.add(("m.room.message", ALICE, None, {"n": "child"}))
    return weaver, unseen, missing, child


@both
@every_version
def test_what_is_parked_behind_a_gap_wakes(version: str, cold: bool) -> None:
    weaver, unseen, missing, child = _gap(version)
    driver = driver_of(weaver, weaver.events[:6], cold=cold)
    driver.feed(fetched(child, "missing_events"))
    assert (driver.verdict(child.event_id), driver.tables.wanted) == ("parked", {missing.event_id})
    heads, min_depth = dict(driver.tables.extremities), driver.tables.room["min_depth"]
    answer = gap_facts(weaver, missing, known=set(driver.tables.events))
    driver.feed(*answer.facts[:-1])
    assert driver.verdict(child.event_id) == "parked"
    assert driver.tables.wanted == {missing.event_id}
    driver.feed(answer.closed)
    placed = _verdict(driver, missing.event_id)
    assert (placed.verdict, placed.outlier, placed.backfilled) == ("accepted", False, True)
    assert driver.tables.state_map(placed.state_before) == weaver.oracle.before[missing.event_id]
    assert driver.verdict(child.event_id) == "accepted"
    assert driver.tables.wanted == set()
    # The child is a head beside the old one; what fills the gap is none.
    assert driver.tables.extremities.keys() == {*heads, child.event_id}
    assert driver.tables.current[("m.room.topic", "")] == unseen.event_id
    assert driver.tables.room["min_depth"] == min_depth
    # The state is stored as its difference from the current one: three keys, not the room.
    assert [len(made.delta) for made in placed.states_made] == [2]


@both
@every_version
def test_a_parked_event_gets_its_place(version: str, cold: bool) -> None:
    """The set may be asked at the parked event itself."""
    weaver, _, missing, child = _gap(version)
    driver = driver_of(weaver, weaver.events[:6], cold=cold)
    driver.feed(fetched(child, "missing_events"))
    answer = gap_facts(weaver, child, known={*driver.tables.events, missing.event_id})
    driver.feed(*(fact for fact in answer.facts[:-2]), answer.closed)
    assert driver.verdict(child.event_id) == "accepted"
    assert driver.tables.wanted == set(), "nobody else lacks what it lacked"


@both
@every_version
def test_an_answer_that_is_wrong_abandons_the_gap(version: str, cold: bool) -> None:
    weaver, _, missing, child = _gap(version)
    driver = driver_of(weaver, weaver.events[:6], cold=cold)
    driver.feed(fetched(child, "missing_events"))
    answer = gap_facts(weaver, missing, known=set(driver.tables.events))
    driver.feed(*answer.facts[:-1], replace(answer.closed, state_count=1))
    assert driver.verdict(child.event_id) == "dropped"
    assert driver.tables.wanted == set()
    (skipped,) = [decision for decision in driver.decided[-1] if isinstance(decision, d.Skipped)]
    assert skipped.reason == "set_incomplete"
    # The right answer, later.
    driver.feed(fetched(child, "missing_events"), answer.closed)
    assert driver.verdict(child.event_id) == "accepted"


@both
def test_sets_about_nothing(cold: bool) -> None:
    weaver, _, missing, _ = _gap("12")
    answer = gap_facts(weaver, missing)
    known, unknown = driver_of(weaver, weaver.events[:6], cold=cold), Driver(weaver.room_id, cold=cold)
    for closed, reason in [
        (answer.closed, "event_not_here"),
        (replace(answer.closed, purpose="whim"), "no_such_purpose"),
        (replace(answer.closed, event_id=weaver.events[3].event_id), "already_known"),
    ]:
        (skipped,) = known.feed(closed)
        assert isinstance(skipped, d.Skipped)
        assert skipped.reason == reason
    assert known.feed(replace(answer.closed, purpose="join", handshake_id="none"))
    unknown.feed(*answer.facts)
    assert unknown.decided[-1][0].reason == "unknown_room"  # type: ignore[attr-defined]
    assert unknown.tables.room == {}


@both
@every_version
def test_an_event_that_its_set_forbids_is_rejected_and_followed(version: str, cold: bool) -> None:
    weaver, _, missing, child = _gap(version)
    driver = driver_of(weaver, weaver.events[:6], cold=cold)
    driver.feed(fetched(child, "missing_events"))
    answer = gap_facts(weaver, missing, known=set(driver.tables.events))
    carols = weaver.oracle.before[missing.event_id][(MEMBER, CAROL)]
    fewer = [
        replace(f, event_ids=tuple(i for i in f.event_ids if i != carols)) if isinstance(f, StateSetChunk) else f
        for f in answer.facts[:-1]
    ]
    driver.feed(*fewer, replace(answer.closed, state_count=answer.closed.state_count - 1))
    assert driver.verdict(missing.event_id) == "rejected"
    assert driver.verdict(child.event_id) == "accepted"
    assert (MEMBER, CAROL) in driver.tables.current, "the old head has her"


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 20), st.integers(1, 12), st.booleans())
def test_states_behind_any_gap(seed: int, version: str, before: int, unseen: int, cold: bool) -> None:
    """What follows the gap alone has the state that it would have had without one."""
    weaver = woven(seed, version, before)
    driver = driver_of(weaver, cold=cold)
    go_on(weaver, len(weaver.events) - 1, unseen)
    missing = weaver.add(("m.room.message", ALICE, None, {}))
    first = len(weaver.events)
    child = weaver.add(("org.free", ALICE, "a", {}), [missing.event_id])
    later = go_on(weaver, first, 4) if weaver.oracle.verdicts[child.event_id] == "accepted" else []
    known = set(driver.tables.events)
    behind = [child, *(e for e in later if set(e.prev_events) <= {child.event_id, *(o.event_id for o in later)})]
    driver.feed(*(fetched(event, "missing_events") for event in behind), *gap_facts(weaver, missing, known=known).facts)
    for event in (missing, *behind):
        verdict = _verdict(driver, event.event_id)
        assert driver.tables.state_map(verdict.state_before) == weaver.oracle.before[event.event_id]
        assert (verdict.verdict == "rejected") == (weaver.oracle.verdicts[event.event_id] == "rejected")


@both
def test_giving_up_after_the_anchor_came(cold: bool) -> None:
    weaver, _, missing, child = _gap("12")
    driver = driver_of(weaver, weaver.events[:6], cold=cold)
    driver.feed(received(child), *gap_facts(weaver, missing, known=set(driver.tables.events)).facts[:-1])
    driver.feed(GapAbandoned(envelope(), weaver.room_id, (missing.event_id,), "no state"))
    assert driver.verdict(child.event_id) == "dropped"
    assert driver.tables.wanted == set()

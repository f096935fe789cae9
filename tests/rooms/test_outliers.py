"""Events beside the timeline: outliers, and the past that a backfill brings."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annals.matrix.events import Event, event_of
from annals.schemas.facts.decisions import Verdict
from tests.support.room_weaver import ALICE, BOB, MEMBER, VERSIONS, driver_of, plain_room, woven
from tests.support.rooms import Driver, fetched, received
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("cold", [False, True])
every_version = pytest.mark.parametrize("version", VERSIONS)


def _last(driver: Driver, event: Event) -> Verdict:
    verdict: Verdict = driver.tables.events[event.event_id]["verdict"]
    return verdict


def _timeline(driver: Driver) -> Any:
    return dict(driver.tables.extremities), dict(driver.tables.current), dict(driver.tables.room)


@both
@every_version
def test_an_outlier_changes_nothing_of_the_room(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    before = _timeline(driver)
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "x"}), [weaver.events[-1].event_id])
    driver.feed(fetched(topic, "state"))
    verdict = _last(driver, topic)
    assert (verdict.verdict, verdict.outlier, verdict.state_before, verdict.state_after) == (
        "accepted",
        True,
        None,
        None,
    )
    assert _timeline(driver) == before


@both
@every_version
def test_an_outlier_that_arrives_is_judged_in_full(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "x"}))
    child = weaver.add(("m.room.message", ALICE, None, {}))
    driver.feed(fetched(topic, "state"), received(child))
    # As a prev event an outlier is not here: it is wanted as an event of the timeline.
    assert (driver.verdict(child.event_id), driver.tables.wanted) == ("parked", {topic.event_id})
    driver.feed(fetched(topic, "missing_events"))
    verdict = _last(driver, topic)
    assert (verdict.verdict, verdict.outlier, verdict.first) == ("accepted", False, False)
    assert driver.verdict(child.event_id) == "accepted"
    assert (set(driver.tables.extremities), driver.tables.wanted) == ({child.event_id}, set())
    assert driver.tables.current == weaver.oracle.current


@both
@every_version
def test_a_wanted_prev_event_that_comes_as_an_outlier_stays_wanted(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    topic = weaver.add(("m.room.topic", ALICE, "", {"topic": "x"}))
    child = weaver.add(("m.room.message", ALICE, None, {}))
    driver = driver_of(weaver, [*weaver.events[:-2], child], cold=cold)
    driver.feed(fetched(topic, "auth"))
    assert (driver.verdict(child.event_id), driver.tables.wanted) == ("parked", {topic.event_id})
    driver.feed(received(topic))
    assert (driver.verdict(child.event_id), driver.tables.wanted) == ("accepted", set())


@both
@every_version
def test_a_rejected_outlier_stays_rejected(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    bad = weaver.build(("m.room.topic", BOB, "", {"topic": "x"}), auth=())
    for fact in (fetched(bad, "state"), received(bad)):
        driver.feed(fact)
        assert driver.verdict(bad.event_id) == "rejected"
    assert _last(driver, bad).state_before == _last(driver, bad).state_after is not None


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 30), st.booleans())
def test_outliers_first_change_no_room(seed: int, version: str, length: int, cold: bool) -> None:
    """Any events come as outliers, in any order, before the room does: it becomes what it is without them."""
    weaver, rng = woven(seed, version, length), Random(seed)
    driver = Driver(weaver.room_id, cold=cold)
    for event in rng.sample(weaver.events, rng.randrange(len(weaver.events) + 1)):
        driver.feed(fetched(event, rng.choice(["state", "auth"])))
    assert driver.tables.extremities == {}
    driver.feed(*map(received, weaver.events))
    for event in weaver.events:
        verdict = _last(driver, event)
        assert (verdict.verdict, verdict.outlier) == (weaver.oracle.verdicts[event.event_id], False)
        assert driver.tables.state_map(verdict.state_before) == weaver.oracle.before[event.event_id]
    assert driver.tables.current == weaver.oracle.current
    assert set(driver.tables.extremities) == weaver.oracle.extremities
    assert driver.tables.wanted == set()


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 30), st.booleans())
@example(1854, "10", 3, False)
def test_backfilled_events_stay_in_the_past(seed: int, version: str, length: int, cold: bool) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    driver = driver_of(weaver, weaver.events[:6], cold=cold)
    for event in weaver.events[6:]:
        if event.event_id in driver.tables.events:
            continue  # woven twice by chance: the same words, time and place
        before = _timeline(driver)
        if rng.random() < 0.5:
            driver.feed(received(event))
            continue
        driver.feed(fetched(event, "backfill"))
        verdict = _last(driver, event)
        assert verdict.backfilled
        assert (verdict.verdict == "rejected") == (weaver.oracle.verdicts[event.event_id] == "rejected")
        assert verdict.verdict != "soft_failed"
        assert driver.tables.state_map(verdict.state_after) == weaver.oracle.after[event.event_id]
        assert _timeline(driver) == before


@both
@every_version
def test_a_backfilled_event_lowers_the_minimum_depth(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = driver_of(weaver, cold=cold)
    extremities, current, room = _timeline(driver)
    said = weaver.build(("m.room.message", ALICE, None, {}), [weaver.events[-1].event_id])
    low = event_of(said.pdu | {"depth": 0}, weaver.rules, said.event_id)
    driver.feed(fetched(low, "backfill"))
    assert _timeline(driver) == (extremities, current, room | {"min_depth": 0})


@both
@every_version
def test_the_past_is_not_soft_failed(version: str, cold: bool) -> None:
    """Bob spoke before he was banned: pushed now it would be soft-failed, as an answer of a backfill it is the past."""
    weaver = plain_room(version)
    then = weaver.events[-1].event_id
    ban = weaver.add((MEMBER, ALICE, BOB, {"membership": "ban"}))
    driver = driver_of(weaver, cold=cold)
    past = weaver.build(("m.room.message", BOB, None, {"n": 1}), [then])
    late = weaver.build(("m.room.message", BOB, None, {"n": 2}), [then])
    driver.feed(fetched(past, "backfill"), received(late))
    assert (driver.verdict(past.event_id), driver.verdict(late.event_id)) == ("accepted", "soft_failed")
    assert list(driver.tables.extremities) == [ban.event_id]

"""What comes again: repeats decide nothing, keys are held by the first, a refusal frees its key."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.events import Event
from annals.schemas.facts.decisions import Duplicate, Retraction, Verdict
from annals.schemas.facts.rooms import EventRefused
from tests.support.room_weaver import ALICE, BOB, CAROL, DAVE, VERSIONS, Weaver, driver_of, plain_room, woven
from tests.support.rooms import Driver, created, envelope, fetched, received
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("cold", [False, True])


def refused(driver: Driver, event_id: str, key: str | None) -> EventRefused:
    return EventRefused(envelope(), driver.room_id, event_id, key, None, "was rejected")


def said(weaver: Weaver, number: int, sender: str = ALICE, prev: list[str] | None = None) -> Event:
    return weaver.build(("m.room.message", sender, None, {"n": number}), prev)


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 30), st.booleans())
def test_a_repeat_of_any_pdu_decides_nothing(seed: int, version: str, length: int, cold: bool) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    driver = driver_of(weaver, rng.sample(weaver.events, len(weaver.events)), cold=cold)
    for event in weaver.events:
        again = [received(event), created(event, "some key"), created(event)]
        again += [fetched(event, purpose) for purpose in ("missing_events", "state", "auth", "backfill")]
        for fact in again:
            assert driver.feed(fact) == ()


@both
def test_a_parked_event_comes_again(cold: bool) -> None:
    weaver = plain_room()
    parent = weaver.add(("m.room.message", ALICE, None, {}))
    child = weaver.add(("m.room.message", ALICE, None, {}))
    driver = driver_of(weaver, [*weaver.events[:-2], child], cold=cold)
    assert driver.verdict(child.event_id) == "parked"
    assert driver.feed(received(child)) == ()
    assert driver.feed(fetched(child, "state")) == ()
    driver.feed(received(parent))
    assert driver.verdict(child.event_id) == "accepted"


@both
def test_the_first_holds_the_key(cold: bool) -> None:
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    first, second = said(weaver, 1), said(weaver, 2)
    source = driver.offset
    driver.feed(created(first, "txn"))
    for _ in range(2):
        (decision,) = driver.feed(created(second, "txn"))
        assert isinstance(decision, Duplicate)
        assert (decision.first_source, decision.first_event_id) == (source, first.event_id)
        assert (decision.event_id, decision.source) == (second.event_id, driver.offset - 1)
    assert list(driver.tables.extremities) == [first.event_id]
    assert second.event_id not in driver.tables.events


@both
def test_a_refusal_frees_the_key_once(cold: bool) -> None:
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    bad = said(weaver, 1, DAVE)
    driver.feed(created(bad, "txn"))
    assert driver.verdict(bad.event_id) == "rejected"
    (retraction,) = driver.feed(refused(driver, bad.event_id, "txn"))
    assert isinstance(retraction, Retraction)
    assert driver.feed(refused(driver, bad.event_id, "txn")) == ()
    good, late = said(weaver, 2), said(weaver, 3)
    driver.feed(created(good, "txn"))
    assert driver.verdict(good.event_id) == "accepted"
    assert driver.feed(refused(driver, bad.event_id, "txn")) == ()
    (decision,) = driver.feed(created(late, "txn"))
    assert isinstance(decision, Duplicate)
    assert driver.feed(refused(driver, late.event_id, "txn")) == ()
    assert isinstance(driver.feed(created(late, "txn"))[0], Duplicate)


@both
def test_a_refused_event_that_was_accepted_is_taken_back(cold: bool) -> None:
    """The case of a machine whose rules have changed: what somebody was told stands."""
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    extremities, current = dict(driver.tables.extremities), dict(driver.tables.current)
    topic = weaver.build(("m.room.topic", ALICE, "", {"topic": "x"}))
    driver.feed(created(topic, "txn"))
    assert driver.tables.current != current
    retraction, verdict = driver.feed(refused(driver, topic.event_id, "txn"))
    assert isinstance(retraction, Retraction)
    assert isinstance(verdict, Verdict)
    assert (verdict.verdict, verdict.reason) == ("rejected", "refused")
    assert (driver.tables.extremities.keys(), driver.tables.current) == (extremities.keys(), current)
    later = said(weaver, 1, prev=list(extremities))
    driver.feed(created(later, "txn"))
    assert list(driver.tables.extremities) == [later.event_id]


@both
def test_taking_back_restores_only_what_nobody_follows(cold: bool) -> None:
    weaver = plain_room()
    base = weaver.events[-1].event_id
    left = weaver.add(("m.room.message", BOB, None, {"n": "left"}), [base])
    right = weaver.add(("m.room.message", CAROL, None, {"n": "right"}), [base])
    follower = weaver.add(("m.room.message", CAROL, None, {"n": "follower"}), [right.event_id])
    taken = weaver.build(("m.room.message", ALICE, None, {}), [left.event_id, right.event_id])
    driver = driver_of(weaver, cold=cold)
    driver.feed(created(taken))
    driver.feed(refused(driver, taken.event_id, None))
    assert driver.tables.extremities.keys() == {left.event_id, follower.event_id}


@both
def test_taking_back_what_others_follow(cold: bool) -> None:
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    taken = weaver.add(("m.room.message", ALICE, None, {}))
    follower = weaver.add(("m.room.message", CAROL, None, {"n": "follower"}))
    driver.feed(received(taken), received(follower), refused(driver, taken.event_id, None))
    assert driver.verdict(taken.event_id) == "rejected"
    assert driver.tables.extremities.keys() == {follower.event_id}

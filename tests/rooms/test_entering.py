"""We came into a room in its midst: what the join follows may come afterwards, and is followed already."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from annals.matrix.events import Event
from annals.schemas.facts import decisions as d
from annals.schemas.facts.rooms import EventRefused, RoomFact, StateSetChunk, StateSetClosed
from tests.support.room_weaver import ALICE, CAROL, VERSIONS, Weaver, plain_room, woven
from tests.support.rooms import Driver, envelope, fetched, received
from tests.support.rooms_elsewhere import below, gap_facts, join_facts, started
from tests.support.soak import few_examples

every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])
SEEDS = st.integers(0, 2**32 - 1)


def _entered(version: str, cold: bool) -> tuple[Weaver, Driver, list[Event]]:
    """A room that erin has joined; the three events before her join, none of which we have. The topic is the second."""
    weaver = plain_room(version)
    before = [
        weaver.add(("m.room.message", CAROL, None, {"n": "lowest"})),
        weaver.add(("m.room.topic", ALICE, "", {"topic": "before"})),
        weaver.add(("m.room.message", CAROL, None, {"n": "last"})),
    ]
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *join_facts(weaver).facts)
    return weaver, driver, before


def _fill(weaver: Weaver, driver: Driver, missing: Event) -> None:
    driver.feed(*gap_facts(weaver, missing, missing.event_id, known=set(driver.tables.events)).facts)


def _verdict(driver: Driver, event: Event) -> d.Verdict:
    verdict: d.Verdict = driver.tables.events[event.event_id]["verdict"]
    return verdict


def _without(fact: RoomFact, event: Event) -> RoomFact:
    """What is told of a state, without this event in it."""
    if isinstance(fact, StateSetClosed):
        return replace(fact, state_count=fact.state_count - 1)
    if isinstance(fact, StateSetChunk):
        return replace(fact, event_ids=tuple(event_id for event_id in fact.event_ids if event_id != event.event_id))
    return fact


def _assert_heads(driver: Driver, *events: Event) -> None:
    ids = {event.event_id for event in events}
    assert (set(driver.tables.extremities), set(driver.view.known_header().extremities)) == (ids, ids)


@both
@every_version
def test_what_the_join_follows_is_no_head(version: str, cold: bool) -> None:
    weaver, driver, (_, topic, last) = _entered(version, cold)
    join = weaver.events[-1]
    current = dict(driver.tables.current)
    driver.feed(received(last))
    assert driver.verdict(last.event_id) == "parked"
    _fill(weaver, driver, topic)
    assert driver.verdict(last.event_id) == "accepted"
    _assert_heads(driver, join)
    assert (driver.tables.current, current) == (weaver.oracle.current, weaver.oracle.current)
    assert (_verdict(driver, last).extremities_added, _verdict(driver, last).extremities_removed) == ((), ())


@both
@every_version
def test_it_takes_with_it_what_it_follows(version: str, cold: bool) -> None:
    """An event that nobody is known to follow is a head until it is known."""
    weaver, driver, (lowest, topic, last) = _entered(version, cold)
    join = weaver.events[-1]
    driver.feed(received(topic))
    _fill(weaver, driver, lowest)
    _assert_heads(driver, join, topic)
    driver.feed(received(last))
    _assert_heads(driver, join)
    assert driver.tables.current == weaver.oracle.current
    assert _verdict(driver, last).extremities_removed == (topic.event_id,)


@both
@every_version
def test_the_room_has_gone_on(version: str, cold: bool) -> None:
    weaver, driver, (_, topic, last) = _entered(version, cold)
    said = weaver.add(("m.room.message", CAROL, None, {"n": "said"}))
    driver.feed(received(said), fetched(last, "missing_events"))
    _fill(weaver, driver, topic)
    _assert_heads(driver, said)
    # What comes behind both is a head like any other.
    merge = weaver.add(("m.room.message", ALICE, None, {}), [last.event_id, said.event_id])
    fork = weaver.add(("m.room.message", ALICE, None, {}), [last.event_id])
    driver.feed(received(merge), received(fork))
    _assert_heads(driver, merge, fork)


@both
def test_a_join_that_was_taken_back_follows_nothing(cold: bool) -> None:
    weaver, driver, (_, topic, last) = _entered("12", cold)
    join = weaver.events[-1]
    driver.feed(EventRefused(envelope(), weaver.room_id, join.event_id, None, None, "no"))
    assert _verdict(driver, join).verdict == "rejected"
    driver.feed(received(last))
    _fill(weaver, driver, topic)
    _assert_heads(driver, last)


@both
def test_it_is_none_again_where_what_followed_it_is_taken_back(cold: bool) -> None:
    weaver, driver, (_, topic, last) = _entered("12", cold)
    join = weaver.events[-1]
    driver.feed(received(last))
    _fill(weaver, driver, topic)
    fork = weaver.add(("m.room.message", ALICE, None, {}), [last.event_id])
    driver.feed(received(fork))
    _assert_heads(driver, join, fork)
    driver.feed(EventRefused(envelope(), weaver.room_id, fork.event_id, None, None, "no"))
    _assert_heads(driver, join)


@both
@every_version
def test_what_a_gap_was_told_hides_nothing(version: str, cold: bool) -> None:
    """The state at an event below a gap is another server's word. What that event follows counts when it comes: who
    answers wrongly cannot keep it out of the current state by having built on it."""
    weaver = plain_room(version)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(*map(received, weaver.events))
    head = weaver.events[-1]
    hidden = weaver.add(("m.room.topic", ALICE, "", {"topic": "hidden"}), [weaver.events[-2].event_id])
    anchor = weaver.add(("m.room.message", CAROL, None, {"n": "anchor"}), [head.event_id, hidden.event_id])
    child = weaver.add(("m.room.message", CAROL, None, {"n": "child"}))
    driver.feed(fetched(child, "missing_events"))
    answer = gap_facts(weaver, anchor, known={event.event_id for event in weaver.events})
    driver.feed(*(_without(fact, hidden) for fact in answer.facts))
    assert driver.verdict(child.event_id) == "accepted"
    assert ("m.room.topic", "") not in driver.tables.current
    driver.feed(received(hidden))
    assert hidden.event_id in driver.tables.extremities
    assert driver.tables.current["m.room.topic", ""] == hidden.event_id


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(1, 20), st.integers(1, 7), st.integers(0, 6), st.booleans())
def test_any_past_leaves_the_heads(seed: int, version: str, before: int, late: int, after: int, cold: bool) -> None:
    """The last events before the join come after it, in any order, among those behind it."""
    weaver, rng = woven(seed, version, before), Random(seed)
    assume(len(weaver.oracle.extremities) <= 10)
    past = weaver.events[-late:]
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *join_facts(weaver).facts)
    join = weaver.events[-1]
    assume(weaver.oracle.verdicts[join.event_id] == "accepted")
    for _ in range(after):
        weaver.add(("org.free", ALICE, rng.choice("abc"), {}), [rng.choice(weaver.events[-2:]).event_id])
    behind = weaver.events[weaver.events.index(join) + 1 :]
    facts = [received(event) for event in rng.sample([*past, *behind], len(past) + len(behind))]
    driver.feed(*facts, *below(weaver, [*past, join, *behind], known=set(driver.tables.events)))
    # What soft-fails depends on the order in which events come, and what follows on that.
    told = {driver.verdict(event.event_id) for event in (*past, *behind)}
    if "soft_failed" not in told and "soft_failed" not in weaver.oracle.verdicts.values():
        _assert_heads(driver, *(weaver.oracle.events[event_id] for event_id in weaver.oracle.extremities))
        assert driver.tables.current == weaver.oracle.current


@both
@every_version
def test_a_parked_event_waits_for_what_it_lacks_now(version: str, cold: bool) -> None:
    """What was here as an outlier when it was parked comes as an event of the timeline, and is parked too."""
    weaver, driver, _ = _entered(version, cold)
    create, join, levels = weaver.events[:3]
    said = weaver.add(("m.room.message", ALICE, None, {}))
    assert {join.event_id, levels.event_id} <= set(said.auth_events)
    driver.feed(received(join), received(said), received(levels))
    assert _verdict(driver, said).missing == (join.event_id,)
    driver.feed(fetched(create, "backfill"))
    assert {driver.verdict(event.event_id) for event in (join, levels, said)} == {"accepted"}
    assert (len(driver.view.known_header().parked), driver.tables.wanted) == (0, set())

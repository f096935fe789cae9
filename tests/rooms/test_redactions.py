"""When a redaction takes effect: both events here, and its sender may; whichever came first."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.events import Event
from annals.schemas.facts.decisions import Verdict
from tests.support.room_weaver import (
    ALICE,
    BOB,
    CAROL,
    MEMBER,
    POWER,
    VERSIONS,
    Weaver,
    driver_of,
    plain_room,
    topological_order,
    woven,
)
from tests.support.rooms import Driver, fetched, received
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)
ERIN = "@erin:peer"
both = pytest.mark.parametrize("cold", [False, True])
every_version = pytest.mark.parametrize("version", VERSIONS)
orders = pytest.mark.parametrize("target_first", [True, False])


def _room(version: str) -> Weaver:
    weaver = plain_room(version)
    weaver.add((MEMBER, ERIN, ERIN, {"membership": "join"}))
    return weaver


def _pair(weaver: Weaver, sender: str, redactor: str) -> tuple[Event, Event]:
    """A message and a redaction of it, on two branches: either may come first."""
    head = [weaver.events[-1].event_id]
    target = weaver.add(("m.room.message", sender, None, {"body": "x"}), head)
    return target, weaver.add(("m.room.redaction", redactor, None, {"redacts": target.event_id}), head)


def _redacted_by(driver: Driver, event: Event) -> str | None:
    by: str | None = driver.tables.events[event.event_id]["redacted_by"]
    assert driver.tables.pending_redactions.get(event.event_id, []) == []
    header = driver.view.known_header()
    assert event.event_id not in header.pending_redactions
    return by


@both
@orders
@every_version
@pytest.mark.parametrize(
    ("sender", "redactor", "takes_effect"),
    [
        (CAROL, CAROL, True),  # one's own
        (CAROL, ERIN, True),  # of the same server, without power
        (CAROL, BOB, True),  # of another server, with power 50
        (BOB, CAROL, False),  # of another server, without power
        (ALICE, BOB, True),  # of the same server, against more power
    ],
)
def test_who_may(version: str, sender: str, redactor: str, takes_effect: bool, target_first: bool, cold: bool) -> None:
    weaver = _room(version)
    target, redaction = _pair(weaver, sender, redactor)
    pair = [target, redaction] if target_first else [redaction, target]
    driver = driver_of(weaver, [*weaver.events[:-2], *pair], cold=cold)
    assert _redacted_by(driver, target) == (redaction.event_id if takes_effect else None)
    assert driver.verdict(redaction.event_id) == "accepted"
    assert driver.view.events[target.event_id].redacted_by == driver.tables.events[target.event_id]["redacted_by"]  # type: ignore[union-attr]


@both
@every_version
def test_the_power_is_that_of_the_redactions_own_place(version: str, cold: bool) -> None:
    weaver = _room(version)
    target = weaver.add(("m.room.message", CAROL, None, {"body": "x"}))
    content = weaver.oracle.events[weaver.oracle.current[POWER, ""]].content
    weaver.add((POWER, ALICE, "", {**content, "redact": 100}))
    late = weaver.add(("m.room.redaction", BOB, None, {"redacts": target.event_id}))
    early = weaver.add(("m.room.redaction", BOB, None, {"redacts": target.event_id}), [target.event_id])
    driver = driver_of(weaver, weaver.events[:-1], cold=cold)
    assert _redacted_by(driver, target) is None
    driver.feed(received(early))
    assert _redacted_by(driver, target) == early.event_id
    assert driver.verdict(late.event_id) == "accepted"


@both
@every_version
def test_the_first_of_several(version: str, cold: bool) -> None:
    weaver = _room(version)
    target, powerless = _pair(weaver, BOB, CAROL)
    head = list(target.prev_events)
    first, second = (
        weaver.add(("m.room.redaction", BOB, None, {"redacts": target.event_id, "n": n}), head) for n in "12"
    )
    driver = driver_of(weaver, [*weaver.events[:-4], powerless, first, second, target], cold=cold)
    assert _redacted_by(driver, target) == first.event_id
    settled: Verdict = driver.tables.events[target.event_id]["verdict"]
    assert settled.redactions_settled == (powerless.event_id, first.event_id, second.event_id)


@both
@orders
@every_version
def test_a_soft_failed_event_can_be_redacted_and_redacts_nothing(version: str, target_first: bool, cold: bool) -> None:
    weaver = _room(version)
    head = [weaver.events[-1].event_id]
    weaver.add((MEMBER, ALICE, CAROL, {"membership": "ban"}))
    target = weaver.add(("m.room.message", CAROL, None, {"body": "x"}), head)
    redaction = weaver.add(("m.room.redaction", ALICE, None, {"redacts": target.event_id}), head)
    mine = weaver.add(("m.room.message", CAROL, None, {"body": "y"}), head)
    in_vain = weaver.add(("m.room.redaction", CAROL, None, {"redacts": mine.event_id}), head)
    events = [target, mine, redaction, in_vain] if target_first else [redaction, in_vain, target, mine]
    driver = driver_of(weaver, [*weaver.events[:-4], *events], cold=cold)
    assert driver.verdict(target.event_id) == driver.verdict(in_vain.event_id) == "soft_failed"
    assert _redacted_by(driver, target) == redaction.event_id
    assert _redacted_by(driver, mine) is None


@both
@orders
@every_version
def test_a_rejected_event_is_not_waited_for(version: str, target_first: bool, cold: bool) -> None:
    weaver = _room(version)
    head = [weaver.events[-1].event_id]
    target = weaver.add(("m.room.message", "@dave:other", None, {"body": "x"}), head)
    redaction = weaver.add(("m.room.redaction", ALICE, None, {"redacts": target.event_id}), head)
    pair = [target, redaction] if target_first else [redaction, target]
    driver = driver_of(weaver, [*weaver.events[:-2], *pair], cold=cold)
    assert driver.verdict(target.event_id) == "rejected"
    assert _redacted_by(driver, target) is None


@both
@every_version
def test_an_outlier_is_redacted_once_it_is_of_the_timeline(version: str, cold: bool) -> None:
    weaver = _room(version)
    target, redaction = _pair(weaver, CAROL, CAROL)
    driver = driver_of(weaver, weaver.events[:-2], cold=cold)
    driver.feed(fetched(target, "state"), received(redaction))
    assert driver.tables.events[target.event_id]["redacted_by"] is None
    driver.feed(received(target))
    assert _redacted_by(driver, target) == redaction.event_id


@both
def test_a_body_that_nobody_vouches_for_redacts_nothing(cold: bool) -> None:
    """Version 10 names the target outside of what the event id covers; the content hash covers it."""
    weaver = _room("10")
    target, redaction = _pair(weaver, CAROL, CAROL)
    driver = driver_of(weaver, weaver.events[:-1], cold=cold)
    fact = received(redaction)
    object.__setattr__(fact, "content_hash_ok", False)
    driver.feed(fact)
    assert driver.verdict(redaction.event_id) == "accepted"
    assert _redacted_by(driver, target) is None


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(1, 40))
def test_what_is_redacted_does_not_depend_on_order(seed: int, version: str, length: int) -> None:
    weaver = woven(seed, version, length)
    one = driver_of(weaver)
    other = driver_of(weaver, topological_order(Random(seed), weaver.events))
    verdicts = [{e: row["verdict"].verdict for e, row in driver.tables.events.items()} for driver in (one, other)]
    if verdicts[0] == verdicts[1]:
        redacted = [{e for e, row in d.tables.events.items() if row["redacted_by"]} for d in (one, other)]
        assert redacted[0] == redacted[1]

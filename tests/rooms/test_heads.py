"""Building on the head: what is foreseen is what is decided."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import body, merge, skeleton
from annals.rooms.heads import PREV_EVENTS_MAX, Foreseen, Intent, foresee
from annals.rooms.needs import Needs
from annals.rooms.view import RoomView, learn
from annals.schemas.facts.decisions import Verdict
from annals.schemas.facts.rooms import PduCreated
from tests.support.room_weaver import ALICE, BOB, MEMBER, POWER, USERS, VERSIONS, driver_of, plain_room, woven
from tests.support.rooms import Driver, created, received
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("cold", [False, True])


def _foreseen(driver: Driver, view: RoomView, fact: PduCreated, offset: int) -> Foreseen:
    while isinstance(outcome := foresee(view, fact, offset), Needs):
        view = learn(view, driver.tables.load(outcome))
    return outcome


def _intents(rng: Random) -> list[Intent]:
    me, you = rng.choice(USERS), rng.choice(USERS)
    return [
        Intent(me, "m.room.message", {"body": "x"}),
        Intent(me, "m.room.topic", {"topic": "x"}, ""),
        Intent(me, MEMBER, {"membership": rng.choice(["join", "leave"])}, me),
        Intent(me, MEMBER, {"membership": rng.choice(["invite", "ban"])}, you),
        Intent(me, POWER, {"users": {you: 50}}, ""),
    ]


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 40), st.booleans())
def test_what_is_foreseen_is_decided(seed: int, version: str, length: int, cold: bool) -> None:
    weaver, rng = woven(seed, version, length), Random(seed)
    driver = driver_of(weaver, cold=cold)
    for intent in _intents(rng):
        fact = created(driver.build(intent, weaver.rules), "txn" if rng.random() < 0.3 else None)
        foreseen = _foreseen(driver, driver.view, fact, driver.offset)
        decisions = [d for d in driver.feed(fact) if isinstance(d, Verdict)]
        assert decisions == ([replace(foreseen.verdict, epoch=1)] if foreseen.verdict else [])
        if foreseen.verdict is None:
            assert fact.event_id in driver.tables.duplicates
        elif decisions[0].verdict == "accepted":
            assert (
                list(driver.tables.extremities) == [fact.event_id] or len(weaver.oracle.extremities) > PREV_EVENTS_MAX
            )


@both
def test_a_chain_is_foreseen_before_any_of_it_is_logged(cold: bool) -> None:
    weaver = plain_room()
    driver = driver_of(weaver, cold=cold)
    driver.view = view = learn(driver.view, driver.tables.load(Needs(rooms=frozenset([weaver.room_id]))))
    facts = []
    for n, intent in enumerate(
        [
            Intent(ALICE, POWER, {"users": {BOB: 50}, "events_default": 50}, ""),
            Intent(BOB, "m.room.topic", {"topic": "x"}, ""),
            Intent(BOB, "m.room.message", {"body": "x"}),
        ]
    ):
        scratch = Driver(weaver.room_id)
        scratch.tables, scratch.view = driver.tables, view
        facts.append(created(scratch.build(intent, weaver.rules)))
        foreseen = _foreseen(driver, scratch.view, facts[-1], (1 << 40) + n)
        assert foreseen.verdict
        assert foreseen.verdict.verdict == "accepted"
        view = foreseen.view
    driver.feed(*facts)
    assert [driver.verdict(fact.event_id) for fact in facts] == ["accepted"] * 3
    assert list(driver.tables.extremities) == [facts[-1].event_id]


@both
@pytest.mark.parametrize("version", VERSIONS)
def test_many_heads_are_merged(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    base = weaver.events[-1].event_id
    for n in range(20):
        # Different states, of different depths: 20 branches of one to three events.
        tip = base
        for step in range(1 + n % 3):
            tip = weaver.add(("org.free", ALICE, f"{n}", {"step": step}), [tip]).event_id
    driver = driver_of(weaver, cold=cold)
    assert len(driver.tables.extremities) == 20
    left = []
    while len(driver.tables.extremities) > 1:
        event = driver.build(Intent(BOB, "m.room.message", {"body": "x"}), weaver.rules)
        assert len(event.prev_events) == min(PREV_EVENTS_MAX, len(driver.tables.extremities))
        driver.feed(created(event))
        assert driver.verdict(event.event_id) == "accepted"
        left.append(len(driver.tables.extremities))
    assert left == [11, 2, 1]
    assert {key for kind, key in driver.tables.current if kind == "org.free"} == {str(n) for n in range(20)}


@both
def test_auth_events_are_of_the_state_that_is_built_on(cold: bool) -> None:
    """With more heads than an event may follow, the current state knows things that the new event does not stand on."""
    weaver = plain_room()
    base = weaver.events[-1].event_id
    content = weaver.oracle.events[weaver.oracle.current[POWER, ""]].content
    new = weaver.add((POWER, ALICE, "", {**content, "events_default": 0}), [base])
    for n in range(12):
        tip = weaver.add(("m.room.message", ALICE, None, {"n": n}), [base])
        weaver.add(("m.room.message", ALICE, None, {"n": -n}), [tip.event_id])
    driver = driver_of(weaver, cold=cold)
    assert driver.tables.current[POWER, ""] == new.event_id
    event = driver.build(Intent(ALICE, "m.room.message", {"body": "x"}), weaver.rules)
    assert new.event_id not in event.prev_events
    assert new.event_id not in event.auth_events
    driver.feed(created(event))
    assert driver.verdict(event.event_id) == "accepted"


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 20))
def test_a_fact_holds_the_exact_event(seed: int, version: str, length: int) -> None:
    for event in woven(seed, version, length).events:
        whole = merge(skeleton(event.pdu, event.rules), body(event.pdu, event.rules))
        assert canonical_bytes(whole) == canonical_bytes(event.pdu)
        assert created(event).event_id == received(event).event_id == event.event_id

"""The machine comes to what the naive oracle comes to: verdicts, states, extremities, fingerprints, stored deltas."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annals.rooms.fingerprint import EMPTY_SUM, changed_sum, fingerprint, sum_bytes, sum_of
from annals.rooms.needs import Needs, StoredState
from annals.rooms.state import Lacking, RoomState, stored_state
from annals.schemas.facts.decisions import Verdict
from tests.support.room_weaver import ALICE, VERSIONS, Weaver, plain_room, woven
from tests.support.rooms import Driver, MemoryTables, received
from tests.support.soak import few_examples

SEEDS = st.integers(0, 2**32 - 1)


def _sum_over(entries: dict[tuple[str, str], str]) -> int:
    total = EMPTY_SUM
    for key, event_id in entries.items():
        total = changed_sum(total, key, None, event_id)
    return total


def _assert_like_oracle(driver: Driver, weaver: Weaver) -> None:
    tables, oracle = driver.tables, weaver.oracle
    for event_id, row in tables.events.items():
        verdict: Verdict = row["verdict"]
        assert (event_id, verdict.verdict) == (event_id, oracle.verdicts[event_id])
        assert tables.state_map(verdict.state_before) == oracle.before[event_id]
        assert tables.state_map(verdict.state_after) == oracle.after[event_id]
    assert tables.extremities.keys() == oracle.extremities
    assert tables.current == oracle.current == tables.state_map(tables.room["current"])


def _assert_states_add_up(tables: MemoryTables) -> None:
    for state_id, made in tables.states.items():
        assert sum_of(made.element_sum) == _sum_over(tables.state_map(state_id))


# In the example, an event that nobody may cite is alone in leading from the state to what a resolution asks about.
@example(0x1566A2, VERSIONS[0], 28)
@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 60))
def test_like_the_oracle(seed: int, version: str, length: int) -> None:
    weaver = woven(seed, version, length)
    driver = Driver(weaver.room_id)
    for event in weaver.events:
        step = driver.feed(received(event))
        for verdict in step:
            if isinstance(verdict, Verdict) and verdict.current_state_id is not None:
                stored = driver.tables.states[verdict.current_state_id]
                assert verdict.current_fingerprint == fingerprint(sum_of(stored.element_sum))
    _assert_like_oracle(driver, weaver)
    _assert_states_add_up(driver.tables)


def test_skip_deltas_of_a_long_line() -> None:
    """State changes enough for skips of 8, 64 and 512; rows a change and the length of a read stay about log8(n)."""
    weaver = plain_room()
    driver = Driver(weaver.room_id)
    driver.feed(*map(received, weaver.events))
    changes = 600
    for number in range(changes):
        event = weaver.add(("org.free", ALICE, f"key{number}", {"n": number}))
        driver.feed(received(event))
        driver.forget() if number % 7 == 0 else None
    states = driver.tables.states
    rows = sum(len(made.delta) for made in states.values())
    assert rows / len(states) <= 1 + math.log(changes, 8)
    assert max(_bases(driver.tables, state_id) for state_id in states) <= 8 * math.ceil(math.log(changes, 8))
    assert {made.depth - (states[made.base_id].depth if made.base_id else 0) for made in states.values()} == {
        1,
        8,
        64,
        512,
    }
    _assert_states_add_up(driver.tables)
    assert driver.tables.current == weaver.oracle.current


def _bases(tables: MemoryTables, state_id: int | None) -> int:
    count = 0
    while state_id is not None:
        state_id = tables.states[state_id].base_id
        count += 1
    return count


def test_no_state_is_made_where_none_is_new() -> None:
    """Messages on two heads whose states differ: the room's state stays what it was, and no row of one is written."""
    weaver = plain_room()
    driver = Driver(weaver.room_id)
    fork = sorted(weaver.oracle.extremities)
    for topic in ("one", "two"):
        weaver.add(("m.room.topic", ALICE, "", {"topic": topic}), fork)
    driver.feed(*map(received, weaver.events))
    made = len(driver.tables.states)
    first, second = [event.event_id for event in weaver.events[-2:]]
    for number in range(3):
        first = weaver.add(("m.room.message", ALICE, None, {"n": number}), [first]).event_id
        second = weaver.add(("m.room.message", ALICE, None, {"n": -number}), [second]).event_id
    weaver.add(("m.room.message", ALICE, None, {"n": "both"}))
    driver.feed(*map(received, weaver.events[-7:]))
    assert len(driver.tables.states) == made
    _assert_like_oracle(driver, weaver)
    assert (
        sum_bytes(_sum_over(weaver.oracle.current)) == driver.tables.states[driver.tables.room["current"]].element_sum
    )


def test_what_a_state_has_for_many_keys_is_asked_for_at_once() -> None:
    def stored(known: dict[tuple[str, str], str | None]) -> RoomState:
        state = stored_state("!r", StoredState(7, 1, sum_bytes(EMPTY_SUM), ()), EMPTY_SUM)
        return state.learn_keys(known)

    a, b, c, d = keys = [("a", ""), ("b", ""), ("c", ""), ("d", "")]
    state = stored({a: "$a", c: None})
    with pytest.raises(Lacking) as lacking:
        state.held(keys)
    assert lacking.value.needs == Needs(state_keys=frozenset([("!r", 7, *b), ("!r", 7, *d)]))
    assert state.held([a, c]) == {a: "$a"}
    assert state.learn_whole({b: "$b"}).held(keys) == {a: "$a", b: "$b"}

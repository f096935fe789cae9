"""Joining a room of another server: the state that was answered makes the room, and what came meanwhile is decided."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from annals.matrix.events import Event
from annals.rooms import trimming
from annals.schemas.facts import decisions as d
from tests.support.room_weaver import ALICE, CAROL, MEMBER, VERSIONS, Weaver, plain_room, woven
from tests.support.rooms import Driver, received
from tests.support.rooms_elsewhere import ERIN, FRANK, failed, go_on, join_facts, started
from tests.support.soak import few_examples

every_version = pytest.mark.parametrize("version", VERSIONS)
both = pytest.mark.parametrize("cold", [False, True])
SEEDS = st.integers(0, 2**32 - 1)


def _of_kind(driver: Driver, kind: type[d.Decision]) -> list[Any]:
    return [decision for step in driver.decided for decision in step if isinstance(decision, kind)]


def _verdict(driver: Driver, event: Event) -> d.Verdict:
    verdict: d.Verdict = driver.tables.events[event.event_id]["verdict"]
    return verdict


def _assert_as_the_oracle(weaver: Weaver, driver: Driver, events: list[Event]) -> None:
    oracle, tables = weaver.oracle, driver.tables
    for event in events:
        verdict = _verdict(driver, event)
        assert verdict.verdict == oracle.verdicts[event.event_id]
        assert tables.state_map(verdict.state_before) == oracle.before[event.event_id]
    assert tables.current == oracle.current
    assert tables.extremities.keys() == oracle.extremities


@both
@every_version
def test_a_join_makes_the_room(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id))
    answer = join_facts(weaver)
    driver.feed(*answer.facts)
    _assert_as_the_oracle(weaver, driver, [answer.event])
    assert driver.tables.room["version"] == version
    assert driver.tables.room["create"] == weaver.events[0].event_id
    assert (driver.tables.handshakes, driver.tables.outcomes["h1"].outcome) == ({}, "completed")
    assert driver.tables.outcomes["h1"].event_id == answer.event.event_id
    assert driver.tables.local[ERIN] == "join"
    (entered,) = _of_kind(driver, d.RoomEntered)
    assert entered.creator == ALICE
    before, after = _verdict(driver, answer.event).states_made
    assert (before.base_id, after.base_id) == (None, before.state_id)
    # The room goes on like any other.
    said = weaver.add(("m.room.message", CAROL, None, {}))
    driver.feed(received(said))
    _assert_as_the_oracle(weaver, driver, [answer.event, said])


def test_what_the_end_of_a_join_looks_at_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a room of 10,000 members these are 10,000 events, which the view itself does not keep."""
    monkeypatch.setattr(trimming, "EVENTS_KEPT", 8)
    weaver = plain_room("12")
    for number in range(40):
        user_id = f"@member{number}:peer"
        weaver.add((MEMBER, user_id, user_id, {"membership": "join"}))
    driver = Driver(weaver.room_id)
    driver.feed(started(weaver.room_id))
    answer = join_facts(weaver)
    driver.feed(*answer.facts[:-1])
    assert len(driver.view.events) < 40
    driver.feed(answer.facts[-1])
    assert driver.tables.outcomes["h1"].outcome == "completed"
    assert not any(needs.glimpses for needs in driver.asked)
    assert not driver.view.beside.glimpses, "it is joined"


@few_examples(12)
@given(SEEDS, st.sampled_from(VERSIONS), st.integers(0, 25), st.integers(0, 25), st.booleans())
def test_any_room_is_as_if_we_had_been_there(seed: int, version: str, before: int, after: int, cold: bool) -> None:
    """What is said during the join is queued, some of it out of order."""
    weaver, rng = woven(seed, version, before), Random(seed)
    assume(len(weaver.oracle.extremities) <= 10)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id))
    answer = join_facts(weaver)
    later = go_on(weaver, len(weaver.events) - 1, after) if after else []
    meanwhile = rng.randrange(len(later) + 1)
    facts = list(answer.facts)
    for event in later[:meanwhile]:
        facts.insert(rng.randrange(len(facts)), received(event))
    driver.feed(*facts)
    assert driver.tables.queued == []
    accepted = weaver.oracle.verdicts[answer.event.event_id] == "accepted"
    assert driver.tables.outcomes["h1"].outcome == ("completed" if accepted else "failed")
    if not accepted:
        assert driver.tables.room == {}
        return
    assert driver.tables.wanted == set()
    driver.feed(*map(received, later[meanwhile:]))
    judged = {decision.event_id for decision in _of_kind(driver, d.Verdict) if not decision.outlier}
    assert judged == {event.event_id for event in (answer.event, *later)}
    # What soft-fails depends on the order in which events come, and what follows on that.
    told = {driver.verdict(event_id) for event_id in judged} | set(weaver.oracle.verdicts.values())
    if "soft_failed" not in told:
        _assert_as_the_oracle(weaver, driver, [answer.event, *later])


@both
@every_version
def test_nothing_is_wanted_or_judged_while_a_join_is_under_way(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    answer = join_facts(weaver)
    said = weaver.add(("m.room.message", CAROL, None, {}))
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id))
    (queued,) = driver.feed(received(said))
    assert isinstance(queued, d.Queued)
    assert said.event_id not in driver.tables.events
    driver.feed(received(said), *answer.facts)
    assert driver.verdict(said.event_id) == "accepted"
    # The second one was a repeat: it waits no more, and nothing came of it.
    assert [skipped.reason for skipped in _of_kind(driver, d.Skipped)] == ["changes_nothing"]
    assert driver.tables.wanted == set()


@both
def test_a_join_that_failed_drops_what_waited(cold: bool) -> None:
    weaver = plain_room()
    driver = Driver(weaver.room_id, cold=cold)
    said = weaver.events[-1]
    driver.feed(started(weaver.room_id), received(said), failed(weaver.room_id))
    outcome = driver.tables.outcomes["h1"]
    assert (outcome.outcome, outcome.status, outcome.errcode) == ("failed", 403, "M_FORBIDDEN")
    assert (driver.tables.queued, driver.tables.events) == ([], {})
    assert driver.feed(failed(weaver.room_id)) == (), "it has ended before"
    # It can come again.
    driver.feed(started(weaver.room_id, "h2"))
    answer = join_facts(weaver, handshake="h2")
    driver.feed(*answer.facts)
    assert driver.tables.outcomes["h2"].outcome == "completed"


@both
def test_nothing_waits_where_we_are_in_the_room(cold: bool) -> None:
    weaver = plain_room()
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *join_facts(weaver).facts)
    driver.feed(started(weaver.room_id, "h2", FRANK))
    said = weaver.add(("m.room.message", CAROL, None, {}))
    driver.feed(received(said))
    assert driver.verdict(said.event_id) == "accepted"
    driver.feed(failed(weaver.room_id, "h2"))
    assert driver.tables.outcomes["h2"].outcome == "failed"


@both
def test_a_second_join_is_attached_to_the_first(cold: bool) -> None:
    weaver = plain_room()
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), started(weaver.room_id, "h2", FRANK), started(weaver.room_id, "h2", FRANK))
    assert driver.tables.handshakes["h2"].attached_to == "h1"
    driver.feed(*join_facts(weaver).facts)
    assert {name: ended.outcome for name, ended in driver.tables.outcomes.items()} == {
        "h1": "completed",
        "h2": "attached",
    }
    assert driver.tables.handshakes == {}


@both
def test_knocks_and_leaves_hold_nothing_back(cold: bool) -> None:
    weaver = plain_room()
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id, "h1", ERIN, "knock"), received(weaver.events[0]))
    assert driver.verdict(weaver.events[0].event_id) == "accepted"
    driver.feed(failed(weaver.room_id))
    assert driver.tables.outcomes["h1"].outcome == "failed"


@both
def test_a_queue_that_is_full(cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annals.rooms.handshakes.QUEUED_FACTS_MAX", 2)
    weaver = plain_room()
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id))
    answer = join_facts(weaver)
    said = [weaver.add(("m.room.message", CAROL, None, {"n": n})) for n in range(3)]
    driver.feed(*map(received, said))
    (skipped,) = _of_kind(driver, d.Skipped)
    assert (skipped.reason, skipped.event_id) == ("queue_full", said[2].event_id)
    driver.feed(*answer.facts)
    assert [event.event_id in driver.tables.events for event in said] == [True, True, False]


def _failure_of(driver: Driver) -> str | None:
    outcome = driver.tables.outcomes["h1"]
    assert (outcome.outcome, outcome.status) == ("failed", 502)
    assert (driver.tables.room, driver.tables.extremities, driver.tables.local) == ({}, {}, {})
    return outcome.reason


@both
@every_version
def test_answers_that_are_wrong(version: str, cold: bool) -> None:
    """A set with two events of one key, without the create event, of fewer ids than it says, with another event."""
    weaver = plain_room(version)
    other = weaver.build((MEMBER, CAROL, CAROL, {"membership": "join", "again": True}))
    answer = join_facts(weaver)
    create = weaver.events[0].event_id

    def outcome(change: Any) -> str | None:
        driver = Driver(weaver.room_id, cold=cold)
        driver.feed(started(weaver.room_id), *change(list(answer.facts)))
        return _failure_of(driver)

    def two_of_one_key(facts: list[Any]) -> list[Any]:
        from tests.support.rooms import fetched
        from tests.support.rooms_elsewhere import chunks

        more = [fetched(other, "state"), *chunks(weaver.room_id, "s1", "state", [other.event_id])]
        closed = replace(answer.closed, state_count=answer.closed.state_count + 1)
        return [*facts[:-1], *more, closed]

    def without_create(facts: list[Any]) -> list[Any]:
        fewer = [
            replace(f, event_ids=tuple(i for i in f.event_ids if i != create)) if hasattr(f, "event_ids") else f
            for f in facts[:-1]
        ]
        return [*fewer, replace(answer.closed, state_count=answer.closed.state_count - 1)]

    assert outcome(two_of_one_key) == "set_has_two_events_of_one_key"
    assert outcome(without_create) == "set_has_another_create_event"
    assert outcome(lambda facts: [*facts[:-1], replace(answer.closed, state_count=99)]) == "set_incomplete"
    assert outcome(lambda facts: [*facts[:-1], replace(answer.closed, set_id="none")]) == "set_incomplete"
    assert outcome(lambda facts: [*facts[:-2], facts[-1]]) == "event_not_here"
    assert outcome(lambda facts: [*facts[:-1], replace(answer.closed, event_id=other.event_id)]) == "event_not_here"


@both
@every_version
def test_a_join_that_the_state_forbids(version: str, cold: bool) -> None:
    weaver = plain_room(version)
    weaver.add((MEMBER, ALICE, ERIN, {"membership": "ban"}))
    answer = join_facts(weaver)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *answer.facts)
    reason = _failure_of(driver)
    assert reason is not None
    assert "rule" in reason


@both
@every_version
def test_rejoining_joins_the_old_heads_and_the_new(version: str, cold: bool) -> None:
    """We have left, the room went on without us, and we come back."""
    weaver = plain_room(version)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *join_facts(weaver).facts)
    left = weaver.add((MEMBER, ERIN, ERIN, {"membership": "leave"}))
    driver.feed(received(left))
    driver.tables.local.clear()  # alice and bob are not ours in this story
    driver.forget()
    known = set(driver.tables.events)
    for number in range(3):
        weaver.add(("m.room.topic", ALICE, "", {"topic": str(number)}))
    driver.feed(started(weaver.room_id, "h2"))
    said = weaver.events[-1]
    answer = join_facts(weaver, "s2", "h2", known)
    driver.feed(received(said), *answer.facts)
    assert driver.tables.outcomes["h2"].outcome == "completed"
    assert driver.tables.extremities.keys() == {left.event_id, answer.event.event_id}
    assert driver.tables.current == weaver.oracle.current
    assert (
        driver.tables.state_map(_verdict(driver, answer.event).state_before)
        == weaver.oracle.before[answer.event.event_id]
    )
    made = _verdict(driver, answer.event).states_made
    assert made[0].base_id is not None, "it is stored as a difference"


@both
@every_version
def test_what_the_old_state_says_does_not_soft_fail_a_join(version: str, cold: bool) -> None:
    """By what we last knew of the room she is banned; it has forgiven her since."""
    weaver = plain_room(version)
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *join_facts(weaver).facts)
    ban = weaver.add((MEMBER, ALICE, ERIN, {"membership": "ban"}))
    driver.feed(received(ban))
    driver.tables.local.clear()
    driver.forget()
    known = set(driver.tables.events)
    weaver.add((MEMBER, ALICE, ERIN, {"membership": "leave"}))
    driver.feed(started(weaver.room_id, "h2"))
    answer = join_facts(weaver, "s2", "h2", known)
    driver.feed(*answer.facts)
    assert driver.verdict(answer.event.event_id) == "accepted"
    assert driver.tables.current == weaver.oracle.current


@both
@every_version
def test_no_state_behind_a_join_copies_it(version: str, cold: bool) -> None:
    """The states that follow are differences from it, however many."""
    weaver = plain_room(version)
    for name in range(30):
        weaver.add(("org.free", ALICE, str(name), {}))
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(started(weaver.room_id), *join_facts(weaver).facts)
    for number in range(70):
        driver.feed(received(weaver.add(("m.room.topic", ALICE, "", {"topic": str(number)}))))
    sizes = sorted(len(made.delta) for made in driver.tables.states.values())
    assert sizes[-1] > 30
    assert sizes[-2] <= 3
    assert driver.tables.current == weaver.oracle.current

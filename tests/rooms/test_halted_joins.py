"""A join in a room that halts: once it is resumed, all is as if nothing had been."""

from __future__ import annotations

from typing import Any

import pytest

from annals.rooms import machine
from annals.rooms.step import Step
from annals.schemas.facts.rooms import RoomFact, RoomResumed
from tests.support.rooms import Driver, envelope
from tests.support.rooms_elsewhere import story
from tests.support.soak import is_soak, only_in_soak

_apply_fact = machine.apply_fact


class Defect(Exception):
    """What the test breaks the machine with."""


def _outcome(driver: Driver) -> Any:
    tables = driver.tables
    verdicts = {event_id: row["verdict"] for event_id, row in tables.events.items()}
    per_event = {e: (v.verdict, v.outlier, v.reason, tables.state_map(v.state_before)) for e, v in verdicts.items()}
    handshakes = {name: (ended.outcome, ended.event_id, ended.errcode) for name, ended in tables.outcomes.items()}
    sets = {name: sorted(ids) for name, ids in tables.sets.items()}
    queued = [tables.facts[offset] for offset in tables.queued]
    rest = tables.current, tables.local, tables.previews, tables.handshakes, tables.wanted, tables.extremities.keys()
    return per_event, handshakes, sets, queued, tables.room.get("create"), rest


def _fed(driver: Driver, facts: list[RoomFact], broken: RoomFact | None) -> Driver:
    def apply_fact(step: Step, fact: RoomFact, source: int) -> None:
        _apply_fact(step, fact, source)
        if fact is broken:
            raise Defect

    for fact in facts:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "apply_fact", apply_fact)
            try:
                driver.feed(fact)
            except Defect:
                driver.halt(fact, "a defect")
    return driver


def _first_and_last_of_each_kind(facts: list[RoomFact]) -> list[int]:
    kinds = [(type(fact), getattr(fact, "purpose", ""), getattr(fact, "role", "")) for fact in facts]
    first, last = {kind: n for n, kind in reversed([*enumerate(kinds)])}, {kind: n for n, kind in enumerate(kinds)}
    return sorted({*first.values(), *last.values()})


@pytest.mark.parametrize("version", [only_in_soak("10"), "12"])
def test_it_goes_on_as_if_nothing_had_been(version: str, request: pytest.FixtureRequest) -> None:
    """In a soak any of the facts breaks the machine."""
    room_id, facts = story(version, 3)
    expected = _outcome(_fed(Driver(room_id), facts, None))
    for number in range(len(facts)) if is_soak(request.config) else _first_and_last_of_each_kind(facts):
        broken = facts[number]
        driver = _fed(Driver(room_id, cold=number % 2 == 0), facts, broken)
        if driver.tables.halted_at is None:
            continue  # what was queued when it broke the machine was decided in the step of another fact
        assert len(driver.tables.waiting) >= len(facts) - number - 1
        driver.feed(RoomResumed(envelope(), room_id, "@admin:test", "fixed", ()))
        assert driver.tables.waiting == []
        assert _outcome(driver) == expected, f"broken by fact {number}, {type(broken).__name__}"


def test_a_closing_that_is_left_out_leaves_the_join_open() -> None:
    room_id, facts = story("12", 3)
    closing = next(fact for fact in facts if type(fact).__name__ == "StateSetClosed")
    driver = _fed(Driver(room_id), facts[: facts.index(closing) + 1], closing)
    halted_at = driver.tables.halted_at
    assert halted_at is not None
    driver.feed(RoomResumed(envelope(), room_id, "@admin:test", "leave it", (halted_at,)))
    assert driver.tables.room == {}
    assert {name: opened.holds_queue for name, opened in driver.tables.handshakes.items()} == {"h1": True, "h2": False}
    assert driver.tables.queued

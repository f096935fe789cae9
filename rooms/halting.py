"""A room that fails stops alone: its facts wait until an operator lets it go on (DESIGN.md section 5)."""

from __future__ import annotations

from collections.abc import Callable

from annals.rooms.needs import Needs
from annals.rooms.parking import wake
from annals.rooms.state import Lacking
from annals.rooms.step import Step
from annals.schemas.facts.decisions import Halted, Resumed, Skipped, Waiting
from annals.schemas.facts.rooms import RoomFact, RoomResumed

BY_OPERATOR = "by_operator"
CHANGES_NOTHING = "changes_nothing"


def halt_room(step: Step, offset: int, error: str, *, waits: bool) -> None:
    """Stop the room at the fact at `offset`, which waits itself unless it is the one that was to resume the room."""
    header = step.header
    halted_at = offset if header.halted_at is None else header.halted_at
    step.set_header(halted_at=halted_at, waiting=(*header.waiting, offset) if waits else header.waiting)
    step.decide(Halted, offset, error=error)


def wait(step: Step, offset: int) -> None:
    """A further fact of a halted room."""
    step.set_header(waiting=(*step.header.waiting, offset))
    step.decide(Waiting, offset)


def resume(step: Step, fact: RoomResumed, apply_fact: Callable[[Step, RoomFact, int], None]) -> None:
    """Decide what waits, at its own stream positions, leaving out what the operator skips."""
    header = step.header
    if header.halted_at is None:
        step.decide(Skipped, step.offset, reason="not_halted")
        return
    _load_waiting(step)
    step.set_header(halted_at=None, waiting=())
    step.decide(Resumed, step.offset, skip=fact.skip)
    for offset in header.waiting:
        if offset in fact.skip:
            step.decide(Skipped, offset, reason=BY_OPERATOR)
        else:
            apply_fact(step, step.view.facts[offset], offset)
            if all(decision.source != offset for decision in step.decisions):
                # A fact that changes nothing has waited too: say that it does no more.
                step.decide(Skipped, offset, reason=CHANGES_NOTHING)
            wake(step)


def leave_out(step: Step, offset: int) -> None:
    """A fact that an operator left out, when everything is decided anew."""
    step.decide(Skipped, offset, reason=BY_OPERATOR)


def _load_waiting(step: Step) -> None:
    room_id = step.view.room_id
    unloaded = frozenset((room_id, offset) for offset in step.header.waiting if offset not in step.view.facts)
    if unloaded:
        raise Lacking(Needs(facts=unloaded))

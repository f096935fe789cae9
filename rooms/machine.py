"""The room machine: `decide(view, fact) -> decisions`, deterministic, without I/O.

A step applies one fact and everything that it wakes. Where the view lacks something the answer is `Needs`, and the
step is tried again from the start once that is loaded: nothing of a step is kept until it is whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from annals.matrix.quick import quick
from annals.rooms.admission import admit, first_needs
from annals.rooms.closing import close
from annals.rooms.forgetting import forget
from annals.rooms.halting import halt_room, leave_out, resume, wait
from annals.rooms.handshakes import enqueue, fail, queue_holder, start
from annals.rooms.needs import Needs
from annals.rooms.out_of_band import take_membership
from annals.rooms.parking import abandon, wake
from annals.rooms.pending import take_answer
from annals.rooms.refusing import refuse
from annals.rooms.sets import gather
from annals.rooms.state import Lacking
from annals.rooms.step import DECIDE_VERSION, Step
from annals.rooms.view import RoomView
from annals.schemas.facts.decisions import Decision, Rebuilt
from annals.schemas.facts.rooms import (
    EventRefused,
    GapAbandoned,
    HandshakeFailed,
    HandshakeStarted,
    MembershipAsked,
    MembershipReceived,
    PduFact,
    PduReceived,
    PolicyAnswered,
    RoomFact,
    RoomForgotten,
    RoomRebuilt,
    RoomResumed,
    StateSetChunk,
    StateSetClosed,
)

__all__ = ["DECIDE_VERSION", "Decided", "UnknownFact", "decide", "halt", "omit"]


class UnknownFact(Exception):
    """A fact that this version of the machine has no rule for: a newer one must read it."""


@quick
@dataclass(frozen=True, slots=True)
class Decided:
    """The view after a step, and the step's decisions (none: the fact changes nothing)."""

    view: RoomView
    decisions: tuple[Decision, ...]


def decide(view: RoomView, fact: RoomFact, offset: int, epoch: int) -> Decided | Needs:
    """Apply the fact at `offset` to the view of its room, or say what the view lacks for that."""
    step = Step(view, offset, epoch)
    try:
        if view.header is None:
            return first_needs(view, fact)
        # That a room was rebuilt says nothing of it: it does not wait behind what cannot be decided.
        if step.header.halted_at is not None and not isinstance(fact, RoomResumed | RoomRebuilt):
            wait(step, offset)
        elif isinstance(fact, RoomResumed):
            resume(step, fact, apply_fact)
        else:
            apply_fact(step, fact, offset)
            wake(step)
    except Lacking as lacking:
        return lacking.needs
    return Decided(step.view, step.finish())


def apply_fact(step: Step, fact: RoomFact, source: int) -> None:
    """What one fact does by itself, before it wakes others."""
    match fact:
        case PduReceived() | MembershipReceived() if _waits_for_join(step, fact):
            enqueue(step, fact, source)
        case MembershipReceived():
            take_membership(step, fact, source, apply_fact)
        case PduFact():
            admit(step, fact, source)
        case StateSetChunk():
            gather(step, fact, source)
        case StateSetClosed():
            close(step, fact, source, apply_fact)
        case HandshakeStarted():
            start(step, fact, source)
        case HandshakeFailed():
            fail(step, fact, source, apply_fact)
        case MembershipAsked():
            pass  # for those who decide whether to take what is sent to us at all
        case PolicyAnswered():
            take_answer(step, fact)
        case EventRefused():
            refuse(step, fact, source)
        case GapAbandoned():
            abandon(step, fact.event_ids, source)
        case RoomForgotten():
            forget(step, fact, source)
        case RoomRebuilt():
            step.decide(Rebuilt, source, users=fact.users)
        case _:
            raise UnknownFact(type(fact).__name__)


def _waits_for_join(step: Step, fact: PduFact) -> bool:
    """Whether the fact waits for the end of a join. What ends a handshake of its own does not."""
    return queue_holder(step) is not None and getattr(fact, "handshake_id", None) is None


def halt(view: RoomView, fact: RoomFact, offset: int, epoch: int, error: str) -> Decided:
    """The pure code failed on this fact: the room stands still, the others go on. Needs a view with its header."""
    step = Step(view, offset, epoch)
    halt_room(step, offset, error, waits=not isinstance(fact, RoomResumed))
    return Decided(step.view, step.finish())


def omit(view: RoomView, offset: int, epoch: int) -> Decided | Needs:
    """An operator has left out the fact at `offset`: nothing comes of it, whatever it is."""
    if view.header is None:
        return Needs(rooms=frozenset([view.room_id]))
    step = Step(view, offset, epoch)
    leave_out(step, offset)
    return Decided(step.view, step.finish())

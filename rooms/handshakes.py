"""Joins, knocks and leaves by way of other servers, and the PDUs that wait for the end of a join.

    HandshakeStarted -> opened, the queue with it -> StateSetClosed, MembershipReceived or HandshakeFailed -> ended

While we are joining a room we cannot judge what its servers send us already: it waits, in the order in which it came.
Where one of our users is in the room we can, and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable

from annals.matrix.events import Event
from annals.rooms.admission import event_or_reason
from annals.rooms.asking import needs_of
from annals.rooms.halting import CHANGES_NOTHING
from annals.rooms.needs import Needs, OpenHandshake
from annals.rooms.parking import wake
from annals.rooms.residents import is_resident, server_of
from annals.rooms.state import Lacking
from annals.rooms.step import Step
from annals.schemas.facts.decisions import HandshakeEnded, HandshakeOpened, Queued, Skipped
from annals.schemas.facts.rooms import HandshakeFailed, HandshakeStarted, PduFact, RoomFact

ApplyFact = Callable[[Step, RoomFact, int], None]

JOIN = "join"
COMPLETED, FAILED, ATTACHED = "completed", "failed", "attached"

#: A constant of the decide version: what a room may hold back during a join (an event is at most 64 KiB).
QUEUED_FACTS_MAX = 2_000

QUEUE_FULL = "queue_full"
NOT_IN_THE_ROOM = "not_in_the_room"


def start(step: Step, fact: HandshakeStarted, source: int) -> None:
    """Open a handshake; a second join of a room is attached to the first."""
    header = step.header
    if open_handshake(step, fact.handshake_id) is not None:
        return
    first = queue_holder(step) if fact.kind == JOIN else None
    holds = fact.kind == JOIN and first is None and not is_resident(step, server_of(fact.user_id) or "")
    attached_to = first.handshake_id if first else None
    opened = OpenHandshake(fact.handshake_id, fact.kind, fact.user_id, attached_to, holds)
    step.set_header(handshakes=(*header.handshakes, opened))
    step.decide(
        HandshakeOpened,
        source,
        handshake_id=fact.handshake_id,
        kind=fact.kind,
        user_id=fact.user_id,
        attached_to=attached_to,
        holds_queue=holds,
    )


def fail(step: Step, fact: HandshakeFailed, source: int, apply_fact: ApplyFact) -> None:
    """A handshake came to nothing. Of one that is not open any more nothing is left to say."""
    said: dict[str, str | int | None] = {"status": fact.status, "errcode": fact.errcode, "reason": fact.reason}
    end(step, fact.handshake_id, FAILED, source, apply_fact, **said)


def end(
    step: Step, handshake_id: str | None, outcome: str, source: int, apply_fact: ApplyFact, **said: str | int | None
) -> None:
    """End a handshake, if it is open, and those that are attached to it; what waited for it is decided, or dropped."""
    ended = open_handshake(step, handshake_id)
    if ended is None:
        return
    if ended.holds_queue:
        _ask_for_queued(step)
    attached = [other for other in step.header.handshakes if other.attached_to == handshake_id]
    rest = tuple(other for other in step.header.handshakes if other is not ended and other not in attached)
    step.set_header(handshakes=rest)
    step.decide(HandshakeEnded, source, handshake_id=ended.handshake_id, outcome=outcome, **said)
    for other in attached:
        step.decide(HandshakeEnded, source, handshake_id=other.handshake_id, outcome=ATTACHED)
    if ended.holds_queue:
        _release(step, is_resident(step, server_of(ended.user_id) or ""), apply_fact)


def open_handshake(step: Step, handshake_id: str | None) -> OpenHandshake | None:
    """The handshake, if it has no outcome yet."""
    return next((other for other in step.header.handshakes if other.handshake_id == handshake_id), None)


def queue_holder(step: Step) -> OpenHandshake | None:
    """The join that is under way, if any."""
    return next((other for other in step.header.handshakes if other.holds_queue), None)


def enqueue(step: Step, fact: PduFact, source: int) -> None:
    """Let a PDU wait for the end of the join."""
    queued = step.header.queued
    if len(queued) >= QUEUED_FACTS_MAX:
        step.decide(Skipped, source, reason=QUEUE_FULL, event_id=fact.event_id)
        return
    step.set_header(queued=(*queued, source))
    step.decide(Queued, source, event_id=fact.event_id)


def _release(step: Step, in_the_room: bool, apply_fact: ApplyFact) -> None:
    """Decide what waited, in order, or drop it: it can come again once we are in the room."""
    queued = step.header.queued
    step.set_header(queued=())
    if in_the_room:
        _ask_for_judging(step, queued)
    for offset in queued:
        fact = step.view.facts[offset]
        if not in_the_room:
            event_id = fact.event_id if isinstance(fact, PduFact) else None
            step.decide(Skipped, offset, reason=NOT_IN_THE_ROOM, event_id=event_id)
            continue
        apply_fact(step, fact, offset)
        if all(decision.source != offset for decision in reversed(step.decisions)):
            # A fact that changes nothing has waited too: say that it does no more.
            step.decide(Skipped, offset, reason=CHANGES_NOTHING)
        wake(step)


def _ask_for_queued(step: Step) -> None:
    room_id, facts = step.view.room_id, step.view.facts
    unloaded = frozenset((room_id, offset) for offset in step.header.queued if offset not in facts)
    if unloaded:
        raise Lacking(Needs(facts=unloaded))


def _ask_for_judging(step: Step, queued: tuple[int, ...]) -> None:
    """One round for all that waits, as each round begins the step anew."""
    needs = Needs()
    for offset in queued:
        fact = step.view.facts[offset]
        event = event_or_reason(step.view.room_id, fact) if isinstance(fact, PduFact) else None
        if isinstance(fact, PduFact) and isinstance(event, Event):
            needs |= needs_of(step.view, fact, event, outlier=False) or Needs()
    if needs:
        raise Lacking(needs)

"""Memberships of our users in rooms whose state we do not have: invites, knocks, and what answers them.

The event is an outlier that nobody can check against anything but its signatures. Once the room is joined it passes
check 4 like all events of its state.
"""

from __future__ import annotations

from dataclasses import replace

from annals.matrix.events import Event
from annals.rooms.admission import admit, event_or_reason
from annals.rooms.handshakes import COMPLETED, ApplyFact, end
from annals.rooms.parking import OTHER_ROOM_VERSION, close_wanted, unpark
from annals.rooms.residents import is_resident, server_of
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, DROPPED, PARKED, Entry
from annals.schemas.facts.decisions import MembershipTaken, Skipped, Verdict
from annals.schemas.facts.rooms import MembershipReceived

#: The reason on such a verdict.
OUT_OF_BAND = "out_of_band"

NO_MEMBERSHIP = "no_membership_of_ours"
_MEMBERSHIPS = ("invite", "knock", "leave", "ban")


def take_membership(step: Step, fact: MembershipReceived, source: int, apply_fact: ApplyFact) -> None:
    """Judge the event like any other where one of our users is in the room; else take it as it is."""
    event = event_or_reason(step.view.room_id, fact)
    if isinstance(event, str):
        step.decide(Skipped, source, reason=event, event_id=fact.event_id)
        return
    membership = event.content.get("membership")
    user_id = event.state_key
    if event.type != "m.room.member" or user_id is None or membership not in _MEMBERSHIPS:
        step.decide(Skipped, source, reason=NO_MEMBERSHIP, event_id=fact.event_id)
        return
    if is_resident(step, server_of(user_id) or ""):
        admit(step, fact, source)
    else:
        _take(step, fact, event, source)
    if step.view.entry(fact.event_id) is not None:
        end(step, fact.handshake_id, COMPLETED, source, apply_fact, event_id=fact.event_id)


def _take(step: Step, fact: MembershipReceived, event: Event, source: int) -> None:
    old = step.view.entry(fact.event_id)
    if step.header.rules not in (None, event.rules):
        step.decide(Skipped, source, reason=OTHER_ROOM_VERSION, event_id=fact.event_id)
        return
    if old is None or old.verdict in (PARKED, DROPPED):
        _record(step, event if old is None else old.event, old, source)
    elif old.known or old.out_of_band or old.verdict != ACCEPTED:
        return  # a repeat
    membership, user_id = event.content["membership"], event.state_key or ""
    beside = step.view.beside
    step.view = step.view.with_beside(replace(beside, moved=beside.moved.set(user_id, membership)))
    step.decide(MembershipTaken, source, event_id=event.event_id, user_id=user_id, membership=membership)


def _record(step: Step, event: Event, old: Entry | None, source: int) -> None:
    unpark(step, event.event_id)
    entry = Entry(
        event=event,
        verdict=ACCEPTED,
        outlier=True,
        backfilled=False,
        provisional=False,
        source=source if old is None else old.source,
        position=step.position,
        idempotency_key=old.idempotency_key if old else None,
        out_of_band=True,
    )
    step.set_entry(entry)
    step.came.append(event.event_id)
    step.decide(
        Verdict,
        entry.source,
        event_id=event.event_id,
        verdict=ACCEPTED,
        reason=OUT_OF_BAND,
        outlier=True,
        first=old is None,
    )
    close_wanted(step, event.event_id, True, source)

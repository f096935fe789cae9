"""Events that cannot be judged yet: parked until what they lack is here, woken in the order of their facts."""

from __future__ import annotations

from dataclasses import replace

from annals.matrix.events import Event
from annals.rooms.judging import Arrival, judge
from annals.rooms.needs import Needs
from annals.rooms.state import Lacking
from annals.rooms.step import Step
from annals.rooms.view import DROPPED, PARKED, Entry
from annals.schemas.facts.decisions import Verdict, WantedClosed, WantedOpened

#: Constants of the decide version: what a room may hold back.
PARKED_EVENTS_MAX = 1_000
PARKED_BYTES_MAX = 16 << 20

PARKING_FULL = "parking_full"
ABANDONED = "abandoned"
ANCESTOR_NOT_HERE = "ancestor_not_here"


def missing_ancestors(step: Step, event: Event, outlier: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(prev_events, auth_events) that are not present. Asked by existence; an outlier needs no prev_events."""
    prev_ids = () if outlier else event.prev_events
    _load(step, (*prev_ids, *event.auth_events))
    prev = tuple(event_id for event_id in prev_ids if not _known(step, event_id))
    auth = tuple(event_id for event_id in event.auth_events if not _present_as_auth(step, event_id))
    return prev, auth


def _load(step: Step, event_ids: tuple[str, ...]) -> None:
    room_id = step.view.room_id
    unloaded = frozenset((room_id, event_id) for event_id in event_ids if event_id not in step.view.events)
    if unloaded:
        raise Lacking(Needs(events=unloaded))


def _known(step: Step, event_id: str) -> bool:
    entry = step.view.entry(event_id)
    return entry is not None and entry.known


def _present_as_auth(step: Step, event_id: str) -> bool:
    entry = step.view.entry(event_id)
    return entry is not None and entry.present_as_auth


def park(step: Step, arrival: Arrival, prev: tuple[str, ...], auth: tuple[str, ...]) -> None:
    """Hold an event back until `prev` and `auth` are here, and want what nobody else brings."""
    event = arrival.event
    parked = step.header.parked
    if len(parked) >= PARKED_EVENTS_MAX:
        drop(step, _held(step, arrival, DROPPED, ()), PARKING_FULL, arrival.first)
        return
    entry = _held(step, arrival, PARKED, tuple(dict.fromkeys((*prev, *auth))))
    step.set_header(parked=parked.set(event.event_id, entry))
    _record(step, entry, None, arrival.first)
    for event_id in entry.missing:
        # An event whose missing ancestor is itself parked waits for that one and wants nothing.
        if event_id not in step.header.parked and event_id not in step.header.wanted:
            step.set_header(wanted=step.header.wanted | {event_id})
            kind = "prev" if event_id in prev else "auth"
            step.decide(WantedOpened, arrival.source, event_id=event_id, kind=kind, wanted_by=event.event_id)


def _held(step: Step, arrival: Arrival, verdict: str, missing: tuple[str, ...]) -> Entry:
    return Entry(
        event=arrival.event,
        verdict=verdict,
        outlier=arrival.outlier,
        backfilled=arrival.backfilled,
        provisional=False,
        source=arrival.source,
        position=step.position,
        idempotency_key=arrival.idempotency_key,
        missing=missing,
    )


def drop_for_lack(step: Step, arrival: Arrival) -> None:
    """An event of ours never parks: one whose ancestors are not all here is dropped; its builder makes it anew."""
    drop(step, _held(step, arrival, DROPPED, ()), ANCESTOR_NOT_HERE, arrival.first)


def drop(step: Step, entry: Entry, reason: str, first: bool) -> None:
    """Give an event up, for now: it may come again."""
    dropped = replace(entry, verdict=DROPPED, missing=(), position=step.position)
    _record(step, dropped, reason, first)


def _record(step: Step, entry: Entry, reason: str | None, first: bool) -> None:
    step.set_entry(entry)
    step.decide(
        Verdict,
        entry.source,
        event_id=entry.event.event_id,
        verdict=entry.verdict,
        reason=reason,
        outlier=entry.outlier,
        backfilled=entry.backfilled,
        first=first,
        missing=entry.missing,
    )


def close_wanted(step: Step, event_id: str, outcome: str, source: int) -> None:
    """What was wanted came, or was given up."""
    if event_id in step.header.wanted:
        step.set_header(wanted=step.header.wanted - {event_id})
        step.decide(WantedClosed, source, event_id=event_id, outcome=outcome)


def wake(step: Step) -> None:
    """Judge every parked event whose ancestors are here, always the one of the lowest offset next."""
    while (ready := _next_ready(step)) is not None:
        event = ready.event
        step.set_header(parked=step.header.parked.delete(event.event_id))
        arrival = Arrival(event, ready.source, False, ready.outlier, ready.backfilled, ready.idempotency_key)
        judge(step, arrival)
        close_wanted(step, event.event_id, "came", ready.source)


def _next_ready(step: Step) -> Entry | None:
    for entry in sorted(step.header.parked.values(), key=lambda parked: parked.source):
        # What it lacked when it was parked is the least that must have come.
        if any(event_id in step.header.parked or event_id in step.header.wanted for event_id in entry.missing):
            continue
        prev, auth = missing_ancestors(step, entry.event, entry.outlier)
        if not prev and not auth:
            return entry
    return None


def abandon(step: Step, event_ids: tuple[str, ...], source: int) -> None:
    """These events cannot be had: drop what waits for them, and what waits for that."""
    gone = set(event_ids)
    for event_id in event_ids:
        close_wanted(step, event_id, ABANDONED, source)
    while dropped := [e for e in step.header.parked.values() if not gone.isdisjoint(e.missing)]:
        for entry in sorted(dropped, key=lambda parked: parked.source):
            step.set_header(parked=step.header.parked.delete(entry.event.event_id))
            drop(step, entry, ABANDONED, first=False)
            gone.add(entry.event.event_id)

"""Events that cannot be judged yet: parked until what they lack is here, woken in the order of their facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from heapq import heappop, heappush

from annals.rooms.ancestors import entries_of, missing_ancestors, permitting_ids
from annals.rooms.judging import Arrival, judge
from annals.rooms.residents import server_of
from annals.rooms.step import Step
from annals.rooms.view import DROPPED, PARKED, Entry, waiting_with, waiting_without
from annals.schemas.facts.decisions import Verdict, WantedClosed, WantedOpened

#: A constant of the decide version: what a room may hold back (an event is at most 64 KiB).
PARKED_EVENTS_MAX = 1_000

PARKING_FULL = "parking_full"
ABANDONED = "abandoned"
CAME = "came"
OTHER_ROOM_VERSION = "other_room_version"


def park(step: Step, arrival: Arrival, prev: tuple[str, ...], auth: tuple[str, ...]) -> None:
    """Hold an event back until `prev` and `auth` are here, and want what nobody else brings."""
    event = arrival.event
    if len(step.header.parked) >= PARKED_EVENTS_MAX and not _make_place(step, event.sender):
        drop_arrival(step, arrival, PARKING_FULL)
        return
    header = step.header
    entry = _held(step, arrival, PARKED, tuple(dict.fromkeys((*prev, *auth))))
    parked = header.parked.set(event.event_id, entry)
    step.set_header(parked=parked, waiting_for=waiting_with(header.waiting_for, entry))
    _record(step, entry, None, arrival.first)
    close_wanted(step, event.event_id, arrival.outlier, arrival.source)
    for event_id in entry.missing:
        # An event whose missing ancestor is itself parked waits for that one and wants nothing.
        if event_id not in step.header.wanted and not _is_parked(step, event_id, as_prev=event_id in prev):
            step.set_header(wanted=step.header.wanted | {event_id})
            kind = "prev" if event_id in prev else "auth"
            step.decide(WantedOpened, arrival.source, event_id=event_id, kind=kind, wanted_by=event.event_id)


def _make_place(step: Step, sender: str) -> bool:
    """Drop an event so that one of this sender can be parked, if its server has fewer here than some other: of the one
    that has most, the last. So who fills a room's places with what leads nowhere pushes out nobody else for good."""
    held = Counter(server_of(entry.event.sender) or "" for entry in step.header.parked.values())
    most = max(held.values())
    if held[server_of(sender) or ""] + 1 >= most:
        return False
    fullest = min(server for server, count in held.items() if count == most)
    of_it = [entry for entry in step.header.parked.values() if server_of(entry.event.sender) == fullest]
    last = max(of_it, key=lambda entry: entry.source).event.event_id
    _drop_parked(step, {last: step.header.parked[last]} | _waiting_behind(step, [last]), PARKING_FULL)
    return True


def _is_parked(step: Step, event_id: str, as_prev: bool) -> bool:
    entry = step.header.parked.get(event_id)
    return entry is not None and not (as_prev and entry.outlier)


def unpark(step: Step, event_id: str) -> Entry | None:
    """Take an event out of the parking place, if it is there."""
    header = step.header
    entry = header.parked.get(event_id)
    if entry is not None:
        waiting_for = waiting_without(header.waiting_for, entry)
        step.set_header(parked=header.parked.delete(event_id), waiting_for=waiting_for)
    return entry


def unpark_for_good(step: Step, event_id: str, source: int) -> None:
    """Take an event out of the parking place though it lacks others: if nobody else does, these are not wanted."""
    entry = unpark(step, event_id)
    for other in entry.missing if entry is not None else ():
        if other not in step.header.waiting_for:
            _close(step, other, ABANDONED, source)


def give_up(step: Step, event_id: str, source: int) -> None:
    """An event that is parked, or not here, will not come: drop it, and what waits for it."""
    entry = step.header.parked.get(event_id)
    if entry is None:
        abandon(step, (event_id,), source)
    else:
        _drop_parked(step, {event_id: entry} | _waiting_behind(step, [event_id]), ABANDONED)


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


def drop_arrival(step: Step, arrival: Arrival, reason: str) -> None:
    """Give an event up before it was parked, for now: it may come again."""
    _record(step, _held(step, arrival, DROPPED, ()), reason, arrival.first)


def _drop_parked(step: Step, entries: dict[str, Entry], reason: str) -> None:
    for event_id in entries:
        unpark(step, event_id)
    for entry in sorted(entries.values(), key=lambda entry: entry.source):
        dropped = replace(entry, verdict=DROPPED, missing=(), position=step.position)
        _record(step, dropped, reason, first=False)
        for event_id in entry.missing:
            if event_id not in step.header.waiting_for:
                _close(step, event_id, ABANDONED, entry.source)


def _waiting_behind(step: Step, event_ids: list[str]) -> dict[str, Entry]:
    """The parked events that wait for these, and those that wait for them."""
    behind: dict[str, Entry] = {}
    todo = list(event_ids)
    while todo:
        for other in step.header.waiting_for.get(todo.pop(), ()):
            if other not in behind:
                behind[other] = step.header.parked[other]
                todo.append(other)
    return behind


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


def close_wanted(step: Step, event_id: str, outlier: bool, source: int) -> None:
    """What was wanted came. As an outlier it is none of the timeline: who has it as a prev event still lacks it."""
    if event_id not in step.header.wanted:
        return
    if outlier:
        waiting = (step.header.parked[other] for other in step.header.waiting_for.get(event_id, ()))
        if any(event_id in entry.event.prev_events and not entry.outlier for entry in waiting):
            return
    _close(step, event_id, CAME, source)


def _close(step: Step, event_id: str, outcome: str, source: int) -> None:
    if event_id in step.header.wanted:
        step.set_header(wanted=step.header.wanted - {event_id})
        step.decide(WantedClosed, source, event_id=event_id, outcome=outcome)


def wake(step: Step) -> None:
    """Judge every parked event whose ancestors are here, always the one of the lowest offset next."""
    ready: list[tuple[int, str]] = []
    while True:
        for entry in _woken(step):
            heappush(ready, (entry.source, entry.event.event_id))
        if not ready:
            return
        _, event_id = heappop(ready)
        if event_id in step.header.parked:
            _judge_parked(step, step.header.parked[event_id])


def _judge_parked(step: Step, entry: Entry) -> None:
    event, rules = entry.event, step.header.rules
    if rules is not None and rules is not event.rules:
        # It came before the room's version was known.
        _drop_parked(step, {event.event_id: entry} | _waiting_behind(step, [event.event_id]), OTHER_ROOM_VERSION)
        return
    unpark(step, event.event_id)
    judge(step, Arrival(event, entry.source, False, entry.outlier, entry.backfilled, entry.idempotency_key))
    close_wanted(step, event.event_id, entry.outlier, entry.source)


def _woken(step: Step) -> list[Entry]:
    """The parked events for which something came since the last look, and which now lack nothing."""
    came, step.came = step.came, []
    header = step.header
    if not header.waiting_for:
        return []
    waiting = {other for event_id in came for other in header.waiting_for.get(event_id, ())}
    candidates = [header.parked[other] for other in sorted(waiting)]
    events = (entry.event for entry in candidates)
    entries_of(step.view, {other for event in events for other in (*event.prev_events, *permitting_ids(event))})
    return [entry for entry in candidates if not _waits_on(step, entry)]


def _waits_on(step: Step, entry: Entry) -> bool:
    """Whether a parked event still lacks something; it waits for what it lacks now.

    What was here as an outlier when it was parked may have come as an event of the timeline since, and be parked too.
    """
    prev, auth = missing_ancestors(step.view, entry.event, entry.outlier)
    if not {*prev, *auth}.issubset(entry.missing):
        unpark(step, entry.event.event_id)
        key = entry.idempotency_key
        park(step, Arrival(entry.event, entry.source, False, entry.outlier, entry.backfilled, key), prev, auth)
    return bool(prev or auth)


def abandon(step: Step, event_ids: tuple[str, ...], source: int) -> None:
    """These events cannot be had: drop what waits for them, and what waits for that."""
    # One that has come meanwhile is not given up, though it may lack others itself.
    gone = [event_id for event_id in dict.fromkeys(event_ids) if not _is_parked(step, event_id, as_prev=True)]
    for event_id in gone:
        _close(step, event_id, ABANDONED, source)
    _drop_parked(step, _waiting_behind(step, gone), ABANDONED)

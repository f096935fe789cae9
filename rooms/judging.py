"""Judging an event whose ancestors are all here: checks 4 to 6 of the server-server API, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from annals.matrix.auth_events import auth_types_for
from annals.matrix.auth_rules import allowed, check_auth_events
from annals.matrix.events import Event, StateKey
from annals.rooms.extremities import extremities_after
from annals.rooms.fingerprint import fingerprint
from annals.rooms.needs import Needs
from annals.rooms.redactions import Redactions, redactions_with
from annals.rooms.resolving import current_changes, joined_state, state_after, state_before
from annals.rooms.state import Lacking, RoomState
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, REJECTED, SOFT_FAILED, Entry, RoomView
from annals.schemas.facts.decisions import CurrentChange, Verdict

CREATE: StateKey = ("m.room.create", "")
_MEMBER = "m.room.member"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event at the moment of its judging. `first`: no row of it is in the tables yet."""

    event: Event
    source: int
    first: bool
    outlier: bool = False
    backfilled: bool = False
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event was not accepted: the rule's number in its room version (None: no rule of it), and the reason."""

    rule: str | None
    reason: str


def judge(step: Step, arrival: Arrival) -> Entry:
    """Decide about an event whose auth_events and, unless it is an outlier, prev_events are present."""
    event = arrival.event
    cited = entries_of(step.view, event.auth_events)
    provisional = any(entry.provisional for entry in cited)
    refusal = _refused_by_auth_events(step, event, cited) or _refused_as_second_create(step, event)
    if arrival.outlier:
        return _record(step, _entry(step, arrival, REJECTED if refusal else ACCEPTED, provisional), arrival, refusal)
    # The state before a rejected event is kept too: events behind it start from there.
    before = state_before(step, event)
    provisional |= any(entry.provisional for entry in entries_of(step.view, event.prev_events))
    refusal = refusal or _refused_by_state(step, event, before, cited)
    entry = replace(
        _entry(step, arrival, REJECTED if refusal else ACCEPTED, provisional),
        state_before=before.state_id,
        state_after=before.state_id,
    )
    if refusal:
        return _record(step, entry, arrival, refusal)
    # 6. Passes authorisation rules based on the current state of the room, otherwise it is "soft failed".
    if not arrival.backfilled and (refusal := _refused_by_current_state(step, event, before)):
        soft_failed = replace(_with_state_after(step, entry, before), verdict=SOFT_FAILED)
        return _record(step, soft_failed, arrival, refusal, replaces=_replaced(event, before))
    return _accept(step, _with_state_after(step, entry, before), arrival, before)


def _entry(step: Step, arrival: Arrival, verdict: str, provisional: bool) -> Entry:
    return Entry(
        event=arrival.event,
        verdict=verdict,
        outlier=arrival.outlier,
        backfilled=arrival.backfilled,
        provisional=provisional,
        source=arrival.source,
        position=step.position,
        idempotency_key=arrival.idempotency_key,
    )


def entries_of(view: RoomView, event_ids: Iterable[str]) -> tuple[Entry, ...]:
    """The entries of events that are here; raises one Lacking for all that are not loaded."""
    found, lacking = [], []
    for event_id in event_ids:
        if event_id not in view.events:
            lacking.append((view.room_id, event_id))
        elif (entry := view.events[event_id]) is not None:
            found.append(entry)
    if lacking:
        raise Lacking(Needs(events=frozenset(lacking)))
    return tuple(found)


def auth_map(view: RoomView, event: Event, state: RoomState) -> dict[StateKey, Event]:
    """The part of `state` that the auth rules read for this event."""
    keys = {CREATE, *auth_types_for(event.type, event.sender, event.state_key, event.content, event.rules)}
    unknown = [(state.room_id, state.stored_id, *key) for key in keys if state.lacks(key)]
    if unknown:
        raise Lacking(Needs(state_keys=frozenset(unknown)))
    ids = [event_id for key in keys if (event_id := state.get(key)) is not None]
    return {entry.event.key: entry.event for entry in entries_of(view, ids)}


def _refused_by_auth_events(step: Step, event: Event, cited: tuple[Entry, ...]) -> Refusal | None:
    # 4. Passes authorisation rules based on the event's auth events, otherwise it is rejected.
    rejection = check_auth_events(event, [(entry.event, entry.verdict == REJECTED) for entry in cited])
    if rejection is None:
        auth = {entry.event.key: entry.event for entry in cited if entry.event.is_state}
        rejection = allowed(event, _with_create(step, event, auth))
    return Refusal(rejection.rule, str(rejection.reason)) if rejection else None


def _with_create(step: Step, event: Event, auth: dict[StateKey, Event]) -> Mapping[StateKey, Event]:
    """From version 12 on the create event is that of the room id, not one that is cited."""
    create_id = step.header.create_event_id
    if CREATE in auth or create_id is None or event.rules.create_cited_in_auth_events:
        return auth
    return {**auth, **{entry.event.key: entry.event for entry in entries_of(step.view, [create_id])}}


def _refused_as_second_create(step: Step, event: Event) -> Refusal | None:
    """A room has one create event: another without prev_events would be a room of its own under the same id."""
    if event.is_state and event.key == CREATE and step.header.create_event_id not in (None, event.event_id):
        return Refusal(None, "second_create")
    return None


def _refused_by_state(step: Step, event: Event, before: RoomState, cited: tuple[Entry, ...]) -> Refusal | None:
    # 5. Passes authorisation rules based on the state before the event, otherwise it is rejected.
    auth = auth_map(step.view, event, before)
    if {known.event_id for known in auth.values()} - {step.header.create_event_id} == {
        entry.event.event_id for entry in cited
    } - {step.header.create_event_id}:
        return None
    rejection = allowed(event, auth)
    return Refusal(rejection.rule, str(rejection.reason)) if rejection else None


def _refused_by_current_state(step: Step, event: Event, before: RoomState) -> Refusal | None:
    current = step.view.current_state()
    if current.state_id == before.state_id or step.header.create_event_id is None:
        return None
    rejection = allowed(event, auth_map(step.view, event, current))
    return Refusal(rejection.rule, str(rejection.reason)) if rejection else None


def _with_state_after(step: Step, entry: Entry, before: RoomState) -> Entry:
    if not entry.event.is_state:
        return entry
    after = step.follow_state(before, {entry.event.key: entry.event.event_id})
    return replace(entry, state_after=after.state_id)


def _replaced(event: Event, before: RoomState) -> str | None:
    return before.get(event.key) if event.is_state else None


def _accept(step: Step, entry: Entry, arrival: Arrival, before: RoomState) -> Entry:
    """An accepted event of the timeline: extremities, current state, minimum depth and redactions follow."""
    event = entry.event
    old_current = step.view.current_state()
    step.set_entry(entry)
    if event.is_state and event.key == CREATE:
        step.set_header(create_event_id=event.event_id, rules=event.rules)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    if not arrival.backfilled:
        added, removed = extremities_after(step, event)
    redactions = redactions_with(step, entry)
    current = old_current
    if added:
        current = joined_state(
            step, event.rules, (state_after(step.view, event_id) for event_id in step.header.extremities)
        )
        step.set_header(current_state_id=current.state_id)
    changes = current_changes(old_current, current)
    min_depth = _lower_min_depth(step, event)
    verdict = _record(
        step,
        entry,
        arrival,
        None,
        extremities_added=added,
        extremities_removed=removed,
        current_delta=current_delta(step.view, changes),
        current_state_id=None if current.state_id == old_current.state_id else current.state_id,
        current_fingerprint=None if current.state_id == old_current.state_id else fingerprint(current.element_sum),
        min_depth=min_depth,
        replaces=_replaced(event, before),
        redactions=redactions.applied,
        redaction_waits_for=redactions.waits_for,
        redactions_settled=redactions.settled,
    )
    return _redacted(step, verdict, redactions)


def _redacted(step: Step, entry: Entry, redactions: Redactions) -> Entry:
    for applied in redactions.applied:
        target = step.view.entry(applied.event_id)
        if target is not None:
            step.set_entry(replace(target, redacted_by=applied.redaction))
    return entry


def _lower_min_depth(step: Step, event: Event) -> int | None:
    lowest = step.header.min_depth
    if lowest is not None and lowest <= event.depth:
        return None
    step.set_header(min_depth=event.depth)
    return event.depth


def current_delta(
    view: RoomView, changes: Mapping[StateKey, tuple[str | None, str | None]]
) -> tuple[CurrentChange, ...]:
    members = [new for (event_type, _), (_, new) in changes.items() if event_type == _MEMBER and new is not None]
    membership = {entry.event.event_id: entry.event.content.get("membership") for entry in entries_of(view, members)}
    return tuple(
        CurrentChange(event_type, state_key, new, old, _text(membership.get(new) if new else None))
        for (event_type, state_key), (old, new) in sorted(changes.items())
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _record(step: Step, entry: Entry, arrival: Arrival, refusal: Refusal | None, **effects: object) -> Entry:
    step.set_entry(entry)
    step.decide(
        Verdict,
        entry.source,
        event_id=entry.event.event_id,
        verdict=entry.verdict,
        rule=refusal.rule if refusal else None,
        reason=refusal.reason if refusal else None,
        outlier=entry.outlier,
        backfilled=entry.backfilled,
        provisional=entry.provisional,
        first=arrival.first,
        state_before=entry.state_before,
        state_after=entry.state_after,
        **effects,
    )
    return entry

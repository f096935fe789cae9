"""Judging an event whose ancestors are all here: checks 4 to 7 of the server-server API, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from annals.matrix.auth_events import CREATE, auth_types_for
from annals.matrix.auth_rules import Rejection, allowed, check_auth_events, kind_of
from annals.matrix.events import Event, StateKey
from annals.matrix.quick import changer, maker, quick
from annals.rooms.ancestors import create_id_of, entries_of
from annals.rooms.extremities import extremities_after
from annals.rooms.fingerprint import fingerprint
from annals.rooms.policy import NOT_SIGNED, lacks_signature
from annals.rooms.redactions import mark_redacted, redactions_of, redactions_with, settle_unredacted
from annals.rooms.residents import memberships
from annals.rooms.resolving import current_changes, joined_state, state_before
from annals.rooms.state import EMPTY_STATE_ID, RoomState
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, PENDING_POLICY, REJECTED, SOFT_FAILED, Entry, Passed
from annals.schemas.facts.decisions import CurrentChange, Verdict

_MEMBER = "m.room.member"

SECOND_CREATE = "second_create"
NO_ROOM_MADE = "create_with_a_state_key"

#: Kinds of events of a room whose last judging is remembered: senders, mostly.
_KINDS_MAX = 1_000


_made, _changed = maker(Entry), changer(Entry)


@quick
@dataclass(frozen=True, slots=True)
class Arrival:
    """An event at the moment of its judging. `first`: no row of it is in the tables yet."""

    event: Event
    source: int
    first: bool
    outlier: bool = False
    backfilled: bool = False
    idempotency_key: str | None = None
    before: RoomState | None = None
    """The state before it where another server has told us (a join, a gap): its prev_events are not looked at."""
    ours: bool = False
    late: bool = False
    """It has been in the graph for a while: others may follow it."""
    enters: bool = False
    """It is the join by which we come into a room of which nothing was known."""


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
    judged_by, refusal = _judge_by_cited(step, event, cited)
    if arrival.outlier:
        return _record(step, _entry(step, arrival, REJECTED if refusal else ACCEPTED, provisional), arrival, refusal)
    # The state before a rejected event is kept too: events behind it start from there.
    before = arrival.before
    if before is None:
        before = state_before(step, event)
        provisional |= any(entry.provisional for entry in entries_of(step.view, event.prev_events))
    passed = [judged_by]
    # 5. Passes authorisation rules based on the state before the event, otherwise it is rejected.
    refusal = refusal or _refused_by_state(step, event, before, passed)
    entry = _entry(step, arrival, REJECTED if refusal else ACCEPTED, provisional, before.state_id)
    if refusal:
        return _reject(step, entry, arrival, refusal)
    # 6. Passes authorisation rules based on the current state of the room, otherwise it is "soft failed".
    current = step.view.current_state()
    is_new = not arrival.backfilled and arrival.before is None
    if is_new and current is not before and current.state_id != EMPTY_STATE_ID:
        refusal = _refused_by_state(step, event, current, passed)
    entry = _with_state_after(step, entry, before)
    if refusal:
        return _keep_out(step, replace(entry, verdict=SOFT_FAILED), arrival, refusal, before)
    # 7. Is validated by the Policy Server, if the room is using a Policy Server, otherwise it is "soft failed".
    # About an event of ours it was asked before that was logged.
    if is_new and not arrival.ours and lacks_signature(step.view, event) is not None:
        return _keep_out(step, replace(entry, verdict=PENDING_POLICY), arrival, Refusal(None, NOT_SIGNED), before)
    return _accept(step, entry, arrival, before)


def judge_answered(step: Step, entry: Entry, refused: str | None) -> None:
    """Decide about an event that has waited for a policy server, by the room as it is now. `refused`: why not."""
    arrival = Arrival(entry.event, entry.source, False, idempotency_key=entry.idempotency_key, late=True)
    before = step.view.state(entry.state_before or EMPTY_STATE_ID)
    current = step.view.current_state()
    refusal = _refused_by_state(step, entry.event, current, []) or (Refusal(None, refused) if refused else None)
    if refusal is not None:
        soft_failed = replace(entry, verdict=SOFT_FAILED, position=step.position)
        _keep_out(step, soft_failed, arrival, refusal, before)
    else:
        _accept(step, replace(entry, verdict=ACCEPTED, position=step.position), arrival, before)


def refused_in(step: Step, event: Event, state: Mapping[StateKey, str]) -> Refusal | None:
    """Whether the event would be rejected with this state before it; its auth_events are present. Decides nothing."""
    cited = entries_of(step.view, event.auth_events)
    _, refusal = _judge_by_cited(step, event, cited)
    return refusal or _refused_by_entries(step, event, {key: state[key] for key in _keys_read(event) if key in state})


def _entry(step: Step, arrival: Arrival, verdict: str, provisional: bool, state_id: int | None = None) -> Entry:
    made: Entry = _made(
        event=arrival.event,
        verdict=verdict,
        outlier=arrival.outlier,
        backfilled=arrival.backfilled,
        provisional=provisional,
        source=arrival.source,
        position=step.position,
        state_before=state_id,
        state_after=state_id,
        idempotency_key=arrival.idempotency_key,
        missing=arrival.event.prev_events if arrival.enters else (),
    )
    return made


def _judge_by_cited(
    step: Step, event: Event, cited: tuple[Entry, ...]
) -> tuple[Mapping[StateKey, str], Refusal | None]:
    """Check 4, and the auth map by which it judged. Once for all of a kind that cite the same."""
    create = _create_by_room_id(step, event)
    kind, passed = kind_of(event), step.view.passed
    known = None if kind is None else passed.get(kind)
    if known is not None and known.cited == cited and known.create == create:
        return known.ids, None
    auth = _auth_of_cited(cited, create)
    ids = {key: permitting.event_id for key, permitting in auth.items()}
    refusal = _refused_as_create(step, event) or _refused_by_auth_events(event, cited, auth)
    if kind is not None and refusal is None:
        if len(passed) >= _KINDS_MAX:
            passed.clear()
        passed[kind] = Passed(cited, create, ids)
    return ids, refusal


def _create_by_room_id(step: Step, event: Event) -> Entry | None:
    """From version 12 on none is cited."""
    if event.rules.create_cited_in_auth_events or event.type == CREATE[0]:
        return None
    return step.view.entry(create_id_of(event.room_id))


def _auth_of_cited(cited: tuple[Entry, ...], create: Entry | None) -> dict[StateKey, Event]:
    """What the cited events are, as an auth map. `create`: the event of the room id, where that is one."""
    auth: dict[StateKey, Event] = {}
    for entry in cited:
        other = entry.event
        if other.state_key is not None:
            auth[other.type, other.state_key] = other
    if create is not None and create.verdict == ACCEPTED:
        auth[CREATE] = create.event
    return auth


def _refused_by_auth_events(event: Event, cited: tuple[Entry, ...], auth: Mapping[StateKey, Event]) -> Refusal | None:
    # 4. Passes authorisation rules based on the event's auth events, otherwise it is rejected.
    rejection = check_auth_events(event, [(entry.event, entry.verdict == REJECTED) for entry in cited])
    return _refusal(rejection or allowed(event, auth))


def _refusal(rejection: Rejection | None) -> Refusal | None:
    return Refusal(rejection.rule, str(rejection.reason)) if rejection else None


def _refused_as_create(step: Step, event: Event) -> Refusal | None:
    """A room has one create event: another one without prev_events would be a room of its own under the same id.

    NOTSPEC: rule 1 looks at the type alone; only with the empty state key does such an event make a room.
    """
    if event.type != CREATE[0]:
        return None
    if event.state_key != CREATE[1]:
        return Refusal(None, NO_ROOM_MADE)
    return Refusal(None, SECOND_CREATE) if step.header.create_event_id not in (None, event.event_id) else None


def _refused_by_state(
    step: Step, event: Event, state: RoomState, passed: list[Mapping[StateKey, str]]
) -> Refusal | None:
    """Judged once per distinct auth map: `passed` are those that the event has passed, and this one joins them."""
    ids = state.held(_keys_read(event))
    if ids in passed:
        return None
    passed.append(ids)
    return _refused_by_entries(step, event, ids)


def _keys_read(event: Event) -> tuple[StateKey, ...]:
    return (CREATE, *auth_types_for(event.type, event.sender, event.state_key, event.content, event.rules))


def _refused_by_entries(step: Step, event: Event, ids: Mapping[StateKey, str]) -> Refusal | None:
    permitting = entries_of(step.view, ids.values())
    return _refusal(allowed(event, {entry.event.key: entry.event for entry in permitting}))


def _with_state_after(step: Step, entry: Entry, before: RoomState) -> Entry:
    if not entry.event.is_state:
        return entry
    after = step.follow_state(before, {entry.event.key: entry.event.event_id})
    return _changed(entry, state_after=after.state_id)


def _replaced(event: Event, before: RoomState) -> str | None:
    return before.get(event.key) if event.is_state else None


def _reject(step: Step, entry: Entry, arrival: Arrival, refusal: Refusal) -> Entry:
    # What waited to redact it waits no more: there is nothing to take away.
    settled = settle_unredacted(step, entry.event.event_id)
    return _record(step, entry, arrival, refusal, redactions_settled=settled)


def _keep_out(step: Step, entry: Entry, arrival: Arrival, refusal: Refusal, before: RoomState) -> Entry:
    """In the DAG, with a state of its own, but neither shown nor followed. It can be redacted; it redacts nothing."""
    step.set_entry(entry)
    redactions = redactions_of(step, entry)
    _record(
        step,
        entry,
        arrival,
        refusal,
        replaces=_replaced(entry.event, before),
        redactions=redactions.applied,
        redactions_settled=redactions.settled,
    )
    mark_redacted(step, redactions)
    return entry


def _accept(step: Step, entry: Entry, arrival: Arrival, before: RoomState) -> Entry:
    """An accepted event of the timeline: extremities, current state, minimum depth and redactions follow."""
    event = entry.event
    old_current, old_extremities = step.view.current_state(), step.header.extremities
    step.set_entry(entry)
    if event.is_state and event.key == CREATE:
        step.set_header(create_event_id=event.event_id, rules=event.rules)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    current = old_current
    if not arrival.backfilled:
        added, removed = extremities_after(step, entry, arrival.late)
        if arrival.enters:
            step.set_header(entered_after=frozenset(entry.missing))
        current = joined_state(step, event.rules, step.header.extremities, old_extremities)
    redactions = redactions_with(step, entry)
    changed = current.state_id != old_current.state_id
    delta: tuple[CurrentChange, ...] = ()
    if changed:
        step.set_header(current_state_id=current.state_id)
        delta = current_delta(step, current_changes(old_current, current))
    _record(
        step,
        entry,
        arrival,
        None,
        extremities_added=added,
        extremities_removed=removed,
        current_delta=delta,
        current_state_id=current.state_id if changed else None,
        current_fingerprint=fingerprint(current.element_sum) if changed else None,
        min_depth=_lower_min_depth(step, event),
        replaces=_replaced(event, before),
        redactions=redactions.applied,
        redaction_waits_for=redactions.waits_for,
        redactions_settled=redactions.settled,
    )
    mark_redacted(step, redactions)
    return entry


def _lower_min_depth(step: Step, event: Event) -> int | None:
    lowest = step.header.min_depth
    if lowest is not None and lowest <= event.depth:
        return None
    step.set_header(min_depth=event.depth)
    return event.depth


def current_delta(step: Step, changes: Mapping[StateKey, tuple[str | None, str | None]]) -> tuple[CurrentChange, ...]:
    """The changes of the current state as decisions carry them, sorted by key. From now on the room has these."""
    members = [new for (event_type, _), (_, new) in changes.items() if event_type == _MEMBER and new is not None]
    membership = memberships(step.view, members)
    delta = tuple(
        CurrentChange(event_type, state_key, new, old, membership.get(new) if new else None)
        for (event_type, state_key), (old, new) in sorted(changes.items())
    )
    moved = {change.state_key: change.membership for change in delta if change.type == _MEMBER}
    if moved:
        beside = step.view.beside
        step.view = step.view.with_beside(replace(beside, moved=beside.moved.update(moved)))
    return delta


def _record(step: Step, entry: Entry, arrival: Arrival, refusal: Refusal | None, **effects: object) -> Entry:
    step.set_entry(entry)
    step.came.append(entry.event.event_id)
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
        missing=entry.missing,
        **effects,
    )
    return entry

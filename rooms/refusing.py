"""An event of ours that was logged and then refused: the refusal lasts, and its idempotency key is free again."""

from __future__ import annotations

from dataclasses import replace

from annals.rooms.fingerprint import fingerprint
from annals.rooms.judging import current_delta, entries_of
from annals.rooms.resolving import current_changes, joined_state, state_after
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, REJECTED, Entry
from annals.schemas.facts.decisions import Retraction, Verdict
from annals.schemas.facts.rooms import EventRefused

REFUSED = "refused"


def refuse(step: Step, fact: EventRefused, source: int) -> None:
    """Retract the event; one that this machine accepted after all is taken out of the timeline again."""
    entry = step.view.entry(fact.event_id)
    if fact.refused_key is not None:
        _free_key(step, fact.refused_key, fact.event_id)
    step.decide(Retraction, source, event_id=fact.event_id, reason=fact.reason)
    if entry is not None:
        freed = replace(entry, idempotency_key=None)
        step.set_entry(freed)
        if entry.verdict == ACCEPTED and not entry.outlier:
            _take_back(step, freed)


def _free_key(step: Step, key: str, event_id: str) -> None:
    first = step.view.first_of_key(key)
    if first is not None and first.event_id == event_id:
        step.view = replace(step.view, keys=step.view.keys.set(key, None))


def _take_back(step: Step, entry: Entry) -> None:
    """Where code has changed, an event that somebody was told is refused may pass: what was told stands."""
    event = entry.event
    header = step.header
    rejected = replace(entry, verdict=REJECTED, state_after=entry.state_before, position=step.position)
    step.set_entry(rejected)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    old = step.view.current_state()
    current = old
    if event.event_id in header.extremities:
        removed = (event.event_id,)
        others = tuple(event_id for event_id in header.extremities if event_id != event.event_id)
        prev = entries_of(step.view, event.prev_events)
        added = tuple(
            sorted(e.event.event_id for e in prev if e.verdict == ACCEPTED and e.event.event_id not in others)
        )
        step.set_header(extremities=(*others, *added))
        current = joined_state(step, event.rules, (state_after(step.view, e) for e in step.header.extremities))
        step.set_header(current_state_id=current.state_id)
    changed = current.state_id != old.state_id
    step.decide(
        Verdict,
        entry.source,
        event_id=event.event_id,
        verdict=REJECTED,
        reason=REFUSED,
        backfilled=entry.backfilled,
        first=False,
        state_before=entry.state_before,
        state_after=entry.state_before,
        extremities_added=added,
        extremities_removed=removed,
        current_delta=current_delta(step.view, current_changes(old, current)),
        current_state_id=current.state_id if changed else None,
        current_fingerprint=fingerprint(current.element_sum) if changed else None,
    )

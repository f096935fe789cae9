"""An event of ours that was logged and then refused: the refusal lasts, and its idempotency key is free again."""

from __future__ import annotations

from dataclasses import replace

from annals.rooms.extremities import accepted_before, not_followed
from annals.rooms.fingerprint import fingerprint
from annals.rooms.judging import current_delta
from annals.rooms.resolving import current_changes, joined_state
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, REJECTED, Entry
from annals.schemas.facts.decisions import Retraction, Verdict
from annals.schemas.facts.rooms import EventRefused

REFUSED = "refused"


def refuse(step: Step, fact: EventRefused, source: int) -> None:
    """Retract the event; one that this machine accepted after all is taken out of the timeline again."""
    entry = step.view.entry(fact.event_id)
    accepted = entry is not None and entry.verdict == ACCEPTED and not entry.outlier
    key = fact.refused_key
    holds_key = key is not None and _holds(step, key, fact.event_id)
    if key is not None and not holds_key and not accepted:
        return  # a repeat, or the event was a duplicate: the key is not its own
    if key is not None and holds_key:
        step.view = step.view.with_key(key, None)
    step.decide(Retraction, source, event_id=fact.event_id, reason=fact.reason)
    if entry is not None:
        freed = replace(entry, idempotency_key=None)
        step.set_entry(freed)
        if accepted:
            _take_back(step, freed)


def _holds(step: Step, key: str, event_id: str) -> bool:
    first = step.view.first_of_key(key)
    return first is not None and first.event_id == event_id


def _take_back(step: Step, entry: Entry) -> None:
    """Where code has changed, an event that somebody was told is refused may pass: what was told stands."""
    event = entry.event
    old, old_extremities = step.view.current_state(), step.header.extremities
    if entry.missing:
        step.set_header(entered_after=frozenset())
    rejected = replace(entry, verdict=REJECTED, state_after=entry.state_before, missing=(), position=step.position)
    step.set_entry(rejected)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    current = old
    if event.event_id in old_extremities:
        removed = (event.event_id,)
        others = tuple(event_id for event_id in old_extremities if event_id != event.event_id)
        behind = not_followed(step, accepted_before(step, entry), others)
        added = tuple(event_id for event_id in behind if event_id not in step.header.entered_after)
        step.set_header(extremities=(*others, *added))
        current = joined_state(step, event.rules, step.header.extremities, old_extremities)
        step.set_header(current_state_id=current.state_id)
    changed = current.state_id != old.state_id
    delta = current_delta(step, current_changes(old, current))
    step.decide(
        Verdict,
        entry.source,
        event_id=event.event_id,
        verdict=REJECTED,
        reason=REFUSED,
        backfilled=entry.backfilled,
        provisional=entry.provisional,
        first=False,
        state_before=entry.state_before,
        state_after=entry.state_before,
        extremities_added=added,
        extremities_removed=removed,
        current_delta=delta,
        current_state_id=current.state_id if changed else None,
        current_fingerprint=fingerprint(current.element_sum) if changed else None,
    )

"""When a redaction takes effect: once both it and its target are here, and only if its sender may.

Room versions 3 and later (rooms/v3, "Handling redactions"): a redaction event is accepted like any other; it is applied
when (1) the power level of its sender is at least the redact level, or (2) the domain of its sender matches that of
the sender of the event it redacts. Whichever of the two events comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from annals.matrix.auth_events import POWER_LEVELS
from annals.matrix.events import Event
from annals.matrix.identifiers import domain_of
from annals.matrix.power_levels import PowerLevels
from annals.rooms.needs import Needs
from annals.rooms.state import Lacking
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, Entry
from annals.schemas.facts.decisions import RedactionApplied

_REDACTION = "m.room.redaction"
_UNREDACTABLE = frozenset(("m.room.create",))


@dataclass(frozen=True, slots=True)
class Redactions:
    """What a verdict brings about: redactions that take effect, or the target that its own redaction waits for."""

    applied: tuple[RedactionApplied, ...] = ()
    waits_for: str | None = None
    settled: tuple[str, ...] = ()


def redactions_with(step: Step, entry: Entry) -> Redactions:
    """The redactions that take effect as `entry` is accepted."""
    event = entry.event
    settled = step.header.pending_redactions.get(event.event_id, ())
    waiting = _redactions_of(step, entry, settled)
    target_id = event.redacts
    if event.type != _REDACTION or target_id is None or target_id == event.event_id:
        return Redactions(waiting, settled=settled)
    target = step.view.entry(target_id)
    if target is None or target.outlier or target.verdict not in (ACCEPTED, "soft_failed"):
        pending = step.header.pending_redactions
        step.set_header(pending_redactions=pending.set(target_id, (*pending.get(target_id, ()), event.event_id)))
        return Redactions(waiting, target_id, settled)
    if target.redacted_by is None and _may_redact(step, entry, target.event):
        return Redactions((*waiting, RedactionApplied(target_id, event.event_id)), settled=settled)
    return Redactions(waiting, settled=settled)


def _redactions_of(step: Step, entry: Entry, waiting: tuple[str, ...]) -> tuple[RedactionApplied, ...]:
    """The first of the waiting redactions of this event that may take effect."""
    event_id = entry.event.event_id
    if not waiting:
        return ()
    step.set_header(pending_redactions=step.header.pending_redactions.delete(event_id))
    for redaction_id in waiting:
        redaction = step.view.entry(redaction_id)
        if redaction is not None and redaction.verdict == ACCEPTED and _may_redact(step, redaction, entry.event):
            return (RedactionApplied(event_id, redaction_id),)
    return ()


def _may_redact(step: Step, redaction: Entry, target: Event) -> bool:
    if target.type in _UNREDACTABLE and target.rules.redaction.whole_create:
        return False
    if domain_of(redaction.event.sender) == domain_of(target.sender):
        return True
    state = step.view.state(redaction.state_before or 0)
    keys = (("m.room.create", ""), POWER_LEVELS)
    lacking = [(state.room_id, state.stored_id, *key) for key in keys if state.lacks(key)]
    if lacking:
        raise Lacking(Needs(state_keys=frozenset(lacking)))
    create, power_levels = (_event(step, state.get(key)) for key in keys)
    levels = PowerLevels.of(create, power_levels)
    return levels.user(redaction.event.sender) >= levels.named("redact")


def _event(step: Step, event_id: str | None) -> Event | None:
    entry = step.view.entry(event_id) if event_id else None
    return entry.event if entry else None

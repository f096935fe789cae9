"""When a redaction takes effect: once both it and its target are here, and only if its sender may.

Room versions 3 and later (rooms/v3, "Handling redactions"): a redaction event is accepted like any other; it is applied
when (1) the power level of its sender is at least the redact level, or (2) the domain of its sender matches that of
the sender of the event it redacts. Whichever of the two events comes first. In versions 1 and 2 every redaction that
is accepted is applied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from annals.matrix.auth_events import CREATE, POWER_LEVELS
from annals.matrix.events import Event
from annals.matrix.identifiers import domain_of
from annals.matrix.power_levels import PowerLevels
from annals.rooms.ancestors import entries_of
from annals.rooms.needs import Needs
from annals.rooms.state import EMPTY_STATE_ID, Lacking
from annals.rooms.step import Step
from annals.rooms.view import ACCEPTED, PENDING_POLICY, SOFT_FAILED, Entry
from annals.schemas.facts.decisions import RedactionApplied

_REDACTION = "m.room.redaction"
#: Verdicts of events whose content can be taken away; a rejected one is shown to nobody.
_REDACTABLE = frozenset((ACCEPTED, SOFT_FAILED, PENDING_POLICY))
_UNREDACTABLE = frozenset(("m.room.create",))


@dataclass(frozen=True, slots=True)
class Redactions:
    """What a verdict brings about: redactions that take effect, or the target that its own redaction waits for."""

    applied: tuple[RedactionApplied, ...] = ()
    waits_for: str | None = None
    settled: tuple[str, ...] = ()


_NO_REDACTIONS = Redactions()


def redactions_with(step: Step, entry: Entry) -> Redactions:
    """The redactions that take effect as `entry` is accepted."""
    event = entry.event
    of_it = redactions_of(step, entry)
    target_id = event.redacts
    if event.type != _REDACTION or target_id is None or target_id == event.event_id:
        return of_it
    target = step.view.entry(target_id)
    if target is None or not target.known:
        # It may still come.
        pending = step.header.pending_redactions
        step.set_header(pending_redactions=pending.set(target_id, (*pending.get(target_id, ()), event.event_id)))
        return replace(of_it, waits_for=target_id)
    if target.verdict in _REDACTABLE and target.redacted_by is None and _may_redact(step, entry, target.event):
        return replace(of_it, applied=(*of_it.applied, RedactionApplied(target_id, event.event_id)))
    return of_it


def redactions_of(step: Step, entry: Entry) -> Redactions:
    """Of the redactions that waited for `entry`, the first that may take effect."""
    event_id = entry.event.event_id
    settled = settle_unredacted(step, event_id)
    if not settled:
        return _NO_REDACTIONS
    for redaction in entries_of(step.view, settled):
        if redaction.verdict == ACCEPTED and _may_redact(step, redaction, entry.event):
            return Redactions((RedactionApplied(event_id, redaction.event.event_id),), settled=settled)
    return Redactions(settled=settled)


def settle_unredacted(step: Step, event_id: str) -> tuple[str, ...]:
    """The redactions that waited for an event; from now on they do not."""
    pending = step.header.pending_redactions
    settled = pending.get(event_id, ())
    if settled:
        step.set_header(pending_redactions=pending.delete(event_id))
    return settled


def mark_redacted(step: Step, redactions: Redactions) -> None:
    """Let the view know what a verdict has redacted."""
    for applied in redactions.applied:
        target = step.view.entry(applied.event_id)
        if target is not None:
            step.set_entry(replace(target, redacted_by=applied.redaction))


def _may_redact(step: Step, redaction: Entry, target: Event) -> bool:
    if target.type in _UNREDACTABLE and target.rules.redaction.whole_create:
        return False
    # v1-2: the auth rules have judged it already.
    if target.rules.redaction_auth_rule:
        return True
    if domain_of(redaction.event.sender) == domain_of(target.sender):
        return True
    state = step.view.state(redaction.state_before or EMPTY_STATE_ID)
    keys = (CREATE, POWER_LEVELS)
    lacking = [(state.room_id, state.stored_id, *key) for key in keys if state.lacks(key)]
    if lacking:
        raise Lacking(Needs(state_keys=frozenset(lacking)))
    in_force = {e.event.key: e.event for e in entries_of(step.view, filter(None, map(state.get, keys)))}
    levels = PowerLevels.of(in_force.get(CREATE), in_force.get(POWER_LEVELS))
    return levels.user(redaction.event.sender) >= levels.named("redact")

"""Forward extremities: the events of a room that nothing accepted refers to yet."""

from __future__ import annotations

from annals.matrix.events import Event
from annals.rooms.step import Step


def extremities_after(step: Step, event: Event) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make an accepted event an extremity in place of its prev_events; returns (added, removed)."""
    old = step.header.extremities
    if event.event_id in old:
        return (), ()
    removed = tuple(event_id for event_id in old if event_id in event.prev_events)
    step.set_header(extremities=(*(event_id for event_id in old if event_id not in removed), event.event_id))
    return (event.event_id,), removed

"""The states between which an event stands: before it, after it, and the room's current one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules
from annals.matrix.state_resolution import EventsNeeded, resolve
from annals.rooms.needs import Needs
from annals.rooms.state import Lacking, RoomState, difference, empty_state
from annals.rooms.step import Step
from annals.rooms.view import REJECTED, RoomView


@dataclass(frozen=True, slots=True)
class ViewedEvents:
    """The view, as state resolution asks for events."""

    view: RoomView

    def get(self, event_id: str) -> Event:
        """The event; raises EventsNeeded where it is not loaded."""
        entry = self.view.events.get(event_id)
        if entry is None:
            raise EventsNeeded([event_id])
        return entry.event

    def rejected(self, event_id: str) -> bool:
        """Whether the event was rejected."""
        entry = self.view.events.get(event_id)
        if entry is None:
            raise EventsNeeded([event_id])
        return entry.verdict == REJECTED


def state_before(step: Step, event: Event) -> RoomState:
    """The state before an event all of whose prev_events are known: of several states, their resolution."""
    return joined_state(step, event.rules, (state_after(step.view, event_id) for event_id in event.prev_events))


def state_after(view: RoomView, event_id: str) -> RoomState:
    """The state after an event of the DAG."""
    entry = view.entry(event_id)
    if entry is None or entry.state_after is None:
        raise ValueError(f"{event_id} has no state: it is not in the DAG of {view.room_id}")
    return view.state(entry.state_after)


def joined_state(step: Step, rules: RoomRules, states: Iterable[RoomState]) -> RoomState:
    """One state of several: the same where they agree, else the resolution, which is a new state of the oldest line."""
    distinct: dict[int, RoomState] = {}
    for state in states:
        # Of equal states the oldest, whatever the order in which they are named.
        known = distinct.get(state.element_sum)
        if known is None or state.state_id < known.state_id:
            distinct[state.element_sum] = state
    if not distinct:
        return empty_state(step.view.room_id)
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    ordered = sorted(distinct.values(), key=lambda state: (-state.depth, state.state_id))
    return _resolved(step, rules, ordered)


def _resolved(step: Step, rules: RoomRules, ordered: Sequence[RoomState]) -> RoomState:
    lacking = Needs()
    for state in ordered:
        if not state.complete:
            lacking |= Needs(whole_states=frozenset([(state.room_id, state.stored_id)]))
    if lacking:
        raise Lacking(lacking)
    maps = [state.entries() for state in ordered]
    try:
        resolution = resolve(rules, maps, ViewedEvents(step.view))
    except EventsNeeded as needed:
        room_id = step.view.room_id
        raise Lacking(Needs(auth_chains=frozenset((room_id, event_id) for event_id in needed.event_ids))) from None
    for state, entries in zip(ordered, maps, strict=True):
        if entries == resolution:
            return state
    return step.follow_state(ordered[0], _delta(maps[0], resolution))


def _delta(old: Mapping[StateKey, str], new: Mapping[StateKey, str]) -> dict[StateKey, str | None]:
    changed: dict[StateKey, str | None] = {key: event_id for key, event_id in new.items() if old.get(key) != event_id}
    changed.update({key: None for key in old if key not in new})
    return changed


def current_changes(old: RoomState, new: RoomState) -> dict[StateKey, tuple[str | None, str | None]]:
    """The keys in which the current state changed: (old event, new event). Cheap where the new one follows the old."""
    if new.state_id == old.state_id:
        return {}
    if new.parent_id == old.state_id and new.link is not None and new.link.changes is not None:
        return _own_changes(old, new, new.link.changes)
    return difference(old, new)


def _own_changes(
    old: RoomState, new: RoomState, keys: Iterable[StateKey]
) -> dict[StateKey, tuple[str | None, str | None]]:
    changed = {}
    for key in keys:
        before, after = old.get(key), new.get(key)
        if before != after:
            changed[key] = (before, after)
    return changed

"""The states between which an event stands: before it, after it, and the room's current one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from annals.matrix.auth_events import CREATE, JOIN_RULES, POWER_LEVELS
from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules
from annals.matrix.state_resolution import EventsNeeded, resolve
from annals.rooms.ancestors import entries_of
from annals.rooms.needs import Needs
from annals.rooms.state import EMPTY_STATE_ID, Lacking, RoomState, difference, empty_state, sum_after
from annals.rooms.step import Step
from annals.rooms.view import REJECTED, Entry, RoomView


class NotInTheDag(Exception):
    """An event without a state, or one that is not here, where the tables say that others stand behind it."""


@dataclass(frozen=True, slots=True)
class ViewedEvents:
    """The view, as state resolution asks for events."""

    view: RoomView

    def get(self, event_id: str) -> Event:
        """The event; raises EventsNeeded where it is not loaded."""
        return self._entry(event_id).event

    def rejected(self, event_id: str) -> bool:
        """Whether the event was rejected."""
        return self._entry(event_id).verdict == REJECTED

    def _entry(self, event_id: str) -> Entry:
        try:
            entry = self.view.events[event_id]
        except KeyError:
            raise EventsNeeded([event_id]) from None
        if entry is None:
            raise NotInTheDag(f"{event_id} is cited in {self.view.room_id}, and not here")
        return entry


def state_before(step: Step, event: Event) -> RoomState:
    """The state before an event all of whose prev_events are known: of several states, their resolution."""
    return joined_state(step, event.rules, event.prev_events, step.header.extremities)


def joined_state(step: Step, rules: RoomRules, event_ids: Iterable[str], extremities: Iterable[str]) -> RoomState:
    """The one state after several events: the same where they agree, else the resolution of their states.

    `extremities` are those of which the room's current state is the joined one: what joins the same states, or comes
    to the same, is the current state again. Else the resolution is a new state, of the longest line.
    """
    distinct = _distinct_states_after(step.view, event_ids)
    if not distinct:
        return empty_state(step.view.room_id)
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    current = step.view.current_state()
    if distinct.keys() == _distinct_states_after(step.view, extremities).keys():
        return current
    ordered = sorted(distinct.values(), key=lambda state: (-state.depth, state.state_id))
    return _resolved(step, rules, ordered, current)


def _distinct_states_after(view: RoomView, event_ids: Iterable[str]) -> dict[int, RoomState]:
    """By fingerprint sum; of equal states the oldest, whatever the order in which they are named."""
    distinct: dict[int, RoomState] = {}
    for state in states_after(view, event_ids):
        known = distinct.get(state.element_sum)
        if known is None or state.state_id < known.state_id:
            distinct[state.element_sum] = state
    return distinct


def states_after(view: RoomView, event_ids: Iterable[str]) -> list[RoomState]:
    """The states after events of the DAG; raises one Lacking for all that are not loaded."""
    state_ids: list[int] = []
    for entry in entries_of(view, event_ids):
        if entry.state_after is None:
            raise NotInTheDag(f"{entry.event.event_id} has no state in {view.room_id}")
        state_ids.append(entry.state_after)
    unloaded = {i for i in state_ids if i not in view.states} - {EMPTY_STATE_ID}
    if unloaded:
        raise Lacking(Needs(states=frozenset((view.room_id, state_id) for state_id in unloaded)))
    return [view.state(state_id) for state_id in state_ids]


def _resolved(step: Step, rules: RoomRules, ordered: Sequence[RoomState], current: RoomState) -> RoomState:
    partial = frozenset((state.room_id, state.stored_id) for state in ordered if not state.complete)
    if partial:
        raise Lacking(Needs(whole_states=partial))
    maps = [state.entries() for state in ordered]
    try:
        resolution = resolve(rules, maps, ViewedEvents(step.view))
    except EventsNeeded as needed:
        raise Lacking(_to_resolve(step.view, maps, needed)) from None
    for state, entries in zip(ordered, maps, strict=True):
        if entries == resolution:
            return state
    delta = _delta(maps[0], resolution)
    if sum_after(ordered[0], delta) == current.element_sum:
        return current
    return step.follow_state(ordered[0], delta)


def _to_resolve(view: RoomView, maps: Sequence[Mapping[StateKey, str]], needed: EventsNeeded) -> Needs:
    """Not only the next step of a walk: all that is in conflict, with what leads to it and permits it, in one round."""
    room_id = view.room_id
    if not needed.with_auth_chains:
        return Needs(events=frozenset((room_id, event_id) for event_id in needed.event_ids))
    common = set(maps[0].items()).intersection(*(entries.items() for entries in maps[1:]))
    conflicted = {event_id for entries in maps for _, event_id in entries.items() - common}
    permitting = {event_id for key, event_id in common if key in (CREATE, JOIN_RULES, POWER_LEVELS)}
    unloaded = {event_id for event_id in conflicted | permitting if event_id not in view.events}
    return Needs(auth_chains=frozenset((room_id, event_id) for event_id in unloaded | needed.event_ids))


def _delta(old: Mapping[StateKey, str], new: Mapping[StateKey, str]) -> dict[StateKey, str | None]:
    changed: dict[StateKey, str | None] = {key: event_id for key, event_id in new.items() if old.get(key) != event_id}
    changed.update({key: None for key in old if key not in new})
    return changed


def current_changes(old: RoomState, new: RoomState) -> Mapping[StateKey, tuple[str | None, str | None]]:
    """The keys in which the current state changed: (old event, new event). Cheap where the new one follows the old."""
    return new.changed if new.parent_id == old.state_id != new.state_id else difference(old, new)

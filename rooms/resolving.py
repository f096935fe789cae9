"""The states between which an event stands: before it, after it, and the room's current one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules, StateResolution
from annals.matrix.state_resolution import EventsNeeded, resolve, resolve_conflicts
from annals.rooms.ancestors import entries_of
from annals.rooms.auth_index import Agreed, ChainIndex, is_indexed
from annals.rooms.auth_paths import NotIndexed
from annals.rooms.needs import Needs
from annals.rooms.state import EMPTY_STATE_ID, Lacking, RoomState, conflicts, difference, empty_state, sum_after
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
    states = states_after(step.view, event_ids)
    if not states:
        return empty_state(step.view.room_id)
    if len(states) == 1:
        return states[0]
    distinct = _distinct(states)
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    current = step.view.current_state()
    if distinct.keys() == _distinct(states_after(step.view, extremities)).keys():
        return current
    ordered = sorted(distinct.values(), key=lambda state: (-state.depth, state.state_id))
    return _resolved(step, rules, ordered, current)


def _distinct(states: Iterable[RoomState]) -> dict[int, RoomState]:
    """By fingerprint sum; of equal states the oldest, whatever the order in which they are named."""
    distinct: dict[int, RoomState] = {}
    for state in states:
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
    try:
        return [view.state(state_id) for state_id in state_ids]
    except Lacking:
        unloaded = {i for i in state_ids if i not in view.states} - {EMPTY_STATE_ID}
        wanted = frozenset((view.room_id, state_id) for state_id in unloaded)
        raise Lacking(Needs(states=wanted, resolutions=resolution_of(view, state_ids))) from None


def resolution_of(view: RoomView, state_ids: Iterable[int]) -> frozenset[tuple[str, tuple[int, ...]]]:
    """As a need: what a resolution of these states reads of the tables."""
    stored = {view.states[i].stored_id if i in view.states else i for i in state_ids} - {EMPTY_STATE_ID}
    return frozenset([(view.room_id, tuple(sorted(stored)))] if len(stored) > 1 else ())


def _resolved(step: Step, rules: RoomRules, ordered: Sequence[RoomState], current: RoomState) -> RoomState:
    if rules.state_resolution is StateResolution.V1:
        return _resolved_as_a_whole(step, rules, ordered, current)
    try:
        differing = conflicts(ordered)
    except Lacking as lacking:
        if not lacking.needs.changes:
            raise
        needs = Needs(resolutions=resolution_of(step.view, [state.state_id for state in ordered]))
        raise Lacking(lacking.needs | needs) from None
    if not is_indexed(step.view):
        return _resolved_as_a_whole(step, rules, ordered, current)
    keys = {key for of_state in differing for key in of_state}
    agreed = Agreed(ordered[0], keys)
    entries_of(step.view, {event_id for of_state in differing for event_id in of_state.values()})
    try:
        added = resolve_conflicts(rules, differing, agreed, ViewedEvents(step.view), ChainIndex(step.view, agreed))
    except EventsNeeded as needed:
        raise Lacking(_needs_of(step.view, needed)) from None
    except NotIndexed:
        return _resolved_as_a_whole(step, rules, ordered, current)
    for state, of_state in zip(ordered, differing, strict=True):
        if of_state == added:
            return state
    delta: dict[StateKey, str | None] = {key: added.get(key) for key in keys | added.keys()}
    return _followed(step, ordered[0], {k: new for k, new in delta.items() if differing[0].get(k) != new}, current)


def _followed(step: Step, base: RoomState, delta: dict[StateKey, str | None], current: RoomState) -> RoomState:
    return current if sum_after(base, delta) == current.element_sum else step.follow_state(base, delta)


def _resolved_as_a_whole(step: Step, rules: RoomRules, ordered: Sequence[RoomState], current: RoomState) -> RoomState:
    """Of rooms that have no chain cover, and of room version 1: whole maps, and walked auth chains."""
    partial = frozenset((state.room_id, state.stored_id) for state in ordered if not state.complete)
    if partial:
        raise Lacking(Needs(whole_states=partial))
    maps = [state.entries() for state in ordered]
    try:
        resolution = resolve(rules, maps, ViewedEvents(step.view))
    except EventsNeeded as needed:
        raise Lacking(_needs_of(step.view, needed)) from None
    for state, entries in zip(ordered, maps, strict=True):
        if entries == resolution:
            return state
    return _followed(step, ordered[0], _delta(maps[0], resolution), current)


def _needs_of(view: RoomView, needed: EventsNeeded) -> Needs:
    wanted = frozenset((view.room_id, event_id) for event_id in needed.event_ids)
    return Needs(auth_chains=wanted) if needed.with_auth_chains else Needs(events=wanted)


def _delta(old: Mapping[StateKey, str], new: Mapping[StateKey, str]) -> dict[StateKey, str | None]:
    changed: dict[StateKey, str | None] = {key: event_id for key, event_id in new.items() if old.get(key) != event_id}
    changed.update({key: None for key in old if key not in new})
    return changed


def current_changes(old: RoomState, new: RoomState) -> Mapping[StateKey, tuple[str | None, str | None]]:
    """The keys in which the current state changed: (old event, new event). Cheap where the new one follows the old."""
    return new.changed if new.parent_id == old.state_id != new.state_id else difference(old, new)

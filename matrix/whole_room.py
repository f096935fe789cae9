"""A room of which every event is at hand: each is judged where it stands, in topological order.

This is checks 4 and 5 of a PDU (server-server API, "Checks performed on receipt of a PDU") without a room machine: for
checking the rules themselves against rooms that others have judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from annals.matrix.auth_events import CREATE
from annals.matrix.auth_rules import Rejection, allowed, check_auth_events
from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules
from annals.matrix.state_resolution import resolve

StateIds = Mapping[StateKey, str]


class IncompleteRoom(ValueError):
    """An event names one that is not there, or itself by way of others."""


@dataclass(slots=True)
class WholeRoom:
    """The events of a room by id, and what was found of each. An `EventSource`."""

    rules: RoomRules
    events: Mapping[str, Event]
    rejections: dict[str, Rejection] = field(default_factory=dict)
    states_after: dict[str, StateIds] = field(default_factory=dict)

    def get(self, event_id: str) -> Event:
        """The event; raises `IncompleteRoom`."""
        try:
            return self.events[event_id]
        except KeyError:
            raise IncompleteRoom(f"{event_id} is not among the events") from None

    def rejected(self, event_id: str) -> bool:
        """Whether the rules refused the event."""
        return event_id in self.rejections

    def resolve(self, state_sets: Sequence[StateIds]) -> dict[StateKey, str]:
        """The resolution of states whose events are all here."""
        return resolve(self.rules, state_sets, self)


def judge_room(rules: RoomRules, events: Iterable[Event]) -> WholeRoom:
    """Judge every event by what it cites and by the state before it; raises `IncompleteRoom`.

    The state before an event is the resolution of the states after its prev_events; a rejected one changes none.
    Signatures and hashes are not looked at.
    """
    room = WholeRoom(rules, {event.event_id: event for event in events})
    for event in _topologically(room.events):
        before = room.resolve([room.states_after[event_id] for event_id in event.prev_events])
        rejection = _judge(room, event, before)
        if rejection is not None:
            room.rejections[event.event_id] = rejection
        changes = rejection is None and event.is_state
        room.states_after[event.event_id] = before | {event.key: event.event_id} if changes else before
    return room


def _judge(room: WholeRoom, event: Event, before: StateIds) -> Rejection | None:
    cited = [room.events[event_id] for event_id in event.auth_events]
    own = {other.key: other for other in cited if other.is_state}
    in_force = {key: room.events[event_id] for key, event_id in before.items()}
    if not room.rules.create_cited_in_auth_events:
        # The room id stands for the create event.
        create_id = "$" + event.room_id[1:]
        if create_id in room.events and not room.rejected(create_id):
            own[CREATE] = room.events[create_id]
    return (
        check_auth_events(event, [(other, room.rejected(other.event_id)) for other in cited])
        or allowed(event, own)
        or allowed(event, in_force)
    )


def _topologically(events: Mapping[str, Event]) -> list[Event]:
    """Every event behind all that it names (Kahn's algorithm)."""
    named = {event_id: {*event.prev_events, *event.auth_events} for event_id, event in events.items()}
    for event in events.values():
        create_id = "$" + event.room_id[1:]
        if not event.rules.create_cited_in_auth_events and create_id in events and create_id != event.event_id:
            named[event.event_id].add(create_id)
    naming: dict[str, list[str]] = {event_id: [] for event_id in events}
    for event_id, others in named.items():
        for other in others:
            if other not in events:
                raise IncompleteRoom(f"{event_id} names {other}, which is not among the events")
            naming[other].append(event_id)
    waiting_for = {event_id: len(others) for event_id, others in named.items()}
    ready = [event_id for event_id, count in waiting_for.items() if count == 0]
    for event_id in ready:  # grows
        for above in naming[event_id]:
            waiting_for[above] -= 1
            if waiting_for[above] == 0:
                ready.append(above)
    if len(ready) < len(events):
        raise IncompleteRoom("events name each other in a circle")
    return [events[event_id] for event_id in ready]

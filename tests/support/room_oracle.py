"""A room judged the naive way: every state a dictionary, every resolution made anew, nothing stored or shared.

What the room machine does with deltas, views and needs must come to the same. Events are received in an order in which
all that an event refers to comes before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from annals.matrix.auth_events import auth_types_for
from annals.matrix.auth_rules import allowed, check_auth_events
from annals.matrix.events import Event, StateKey
from annals.matrix.room_versions import RoomRules
from annals.matrix.state_resolution import resolve

CREATE: StateKey = ("m.room.create", "")
State = dict[StateKey, str]


@dataclass
class Oracle:
    """The room as it should be. `verdicts`, `before` and `after` are by event id."""

    rules: RoomRules
    events: dict[str, Event] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    before: dict[str, State] = field(default_factory=dict)
    after: dict[str, State] = field(default_factory=dict)
    extremities: set[str] = field(default_factory=set)
    current: State = field(default_factory=dict)
    create_id: str | None = None

    def receive(self, event: Event) -> str:
        """Judge one event; returns its verdict."""
        event_id = event.event_id
        self.events[event_id] = event
        before = self.before[event_id] = self.joined(event.prev_events)
        self.after[event_id] = before
        if self._refused(event, before):
            verdict = "rejected"
        else:
            if event.state_key is not None:
                self.after[event_id] = {**before, event.key: event_id}
            soft_failed = bool(self.current) and self._refused_in(event, self.current)
            verdict = "soft_failed" if soft_failed else "accepted"
        self.verdicts[event_id] = verdict
        if verdict == "accepted":
            self.create_id = self.create_id or event_id
            self.extremities = self.heads()
            self.current = self.joined(self.extremities)
        return verdict

    def _refused(self, event: Event, before: State) -> bool:
        cited = [self.events[event_id] for event_id in event.auth_events]
        if event.type == "m.room.create" and self.create_id is not None:
            return True
        if check_auth_events(event, [(other, self.rejected(other.event_id)) for other in cited]):
            return True
        auth = {other.key: other for other in cited if other.state_key is not None}
        if event.rules.room_id_is_create_hash and event.type != "m.room.create":
            auth[CREATE] = self.events["$" + event.room_id[1:]]
        return allowed(event, auth) is not None or self._refused_in(event, before)

    def _refused_in(self, event: Event, state: State) -> bool:
        return allowed(event, {key: self.events[event_id] for key, event_id in state.items()}) is not None

    def joined(self, event_ids: Iterable[str]) -> State:
        """The state after all of these events."""
        return resolve(self.rules, [self.after[event_id] for event_id in sorted(event_ids)], self)

    def heads(self) -> set[str]:
        """Accepted events that no accepted event follows, directly or over others that were not accepted."""
        followed: set[str] = set()
        for event_id, verdict in self.verdicts.items():
            if verdict == "accepted":
                todo = list(self.events[event_id].prev_events)
                while todo:
                    before = todo.pop()
                    if self.verdicts[before] == "accepted":
                        followed.add(before)
                    else:
                        todo.extend(self.events[before].prev_events)
        return {event_id for event_id, verdict in self.verdicts.items() if verdict == "accepted"} - followed

    def permitting(self, state: State, wish: tuple[str, str, str | None, dict[str, Any]]) -> list[str]:
        """The auth events of an event of (type, sender, state key, content) in this state."""
        keys = auth_types_for(*wish, self.rules)
        return [state[key] for key in keys if key in state]

    # What state resolution asks

    def get(self, event_id: str) -> Event:
        """One event."""
        return self.events[event_id]

    def rejected(self, event_id: str) -> bool:
        """Whether it was rejected."""
        return self.verdicts[event_id] == "rejected"

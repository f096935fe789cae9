"""Rooms told event by event, for tests of state resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from annals.matrix.auth_rules import allowed
from annals.matrix.events import Event, StateKey
from annals.matrix.state_resolution import EventsNeeded, resolve
from tests.support.room_events import RoomEvents, user

StateIds = dict[StateKey, str]


class Source:
    """Gives every event, counts what was read, and knows which are rejected."""

    def __init__(self, events: Mapping[str, Event]) -> None:
        self.events = events
        self.refused: set[str] = set()
        self.read: set[str] = set()

    def get(self, event_id: str) -> Event:
        self.read.add(event_id)
        return self.events[event_id]

    def rejected(self, event_id: str) -> bool:
        return event_id in self.refused


class LazySource(Source):
    """Knows nothing at first; `load` is what a caller does on `EventsNeeded`."""

    def __init__(self, events: Mapping[str, Event]) -> None:
        super().__init__(events)
        self.loaded: set[str] = set()
        self.round_trips = 0

    def get(self, event_id: str) -> Event:
        if event_id not in self.loaded:
            raise EventsNeeded([event_id])
        return super().get(event_id)

    def load(self, event_ids: frozenset[str]) -> None:
        assert not event_ids & self.loaded, "asked twice"
        self.loaded |= event_ids
        self.round_trips += 1


class Story:
    """A public room of alice, bob (50), carol and dave. Each event stands after others: its state is theirs.

    In version 12 alice's power is infinite and she is not listed.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.room = RoomEvents(version)
        self.rules = self.room.rules
        self.source = Source(self.room.events)
        self.after: dict[str, StateIds] = {"CREATE": {self.room.create.key: "$CREATE"}}
        self.member("ALICE", "alice", "alice", "join", after="CREATE")
        self.levels("POWER", "alice", {"bob": 50}, after="ALICE")
        self.join_rule("RULE", "alice", "public", after="POWER")
        for name, before in (("bob", "RULE"), ("carol", "BOB"), ("dave", "CAROL")):
            self.member(name.upper(), name, name, "join", after=before)
        self.after["START"] = self.after["DAVE"]

    def add(
        self,
        name: str,
        event_type: str,
        sender: str,
        state_key: str,
        content: dict[str, Any],
        *,
        after: str,
        ts_ms: int | None = None,
    ) -> None:
        """An event that its own state must allow. `after`: names, or one name of a state that `assume` gave."""
        before = self.resolved(*after.split())
        state = {key: self.room.events[event_id] for key, event_id in before.items()}
        cited = self.room.cite(state, event_type, sender, state_key, content)
        prev = [f"${other}" for other in after.split()]
        event = self.room.event(f"${name}", event_type, sender, state_key, content, prev=prev, auth=cited, ts_ms=ts_ms)
        refused = allowed(event, state)
        assert refused is None, f"{name} is not allowed where it stands: {refused}"
        self.after[name] = before | {event.key: event.event_id}

    def member(self, name: str, sender: str, target: str, membership: str, *, after: str) -> None:
        self.add(name, "m.room.member", sender, user(target), {"membership": membership}, after=after)

    def levels(self, name: str, sender: str, users: dict[str, int], *, after: str, ts_ms: int | None = None) -> None:
        listed = {user(who): level for who, level in users.items()}
        if self.version != "12":
            listed[user("alice")] = 100
        self.add(name, "m.room.power_levels", sender, "", {"users": listed}, after=after, ts_ms=ts_ms)

    def join_rule(self, name: str, sender: str, rule: str, *, after: str) -> None:
        self.add(name, "m.room.join_rules", sender, "", {"join_rule": rule}, after=after)

    def topic(self, name: str, sender: str, *, after: str, ts_ms: int | None = None) -> None:
        self.add(name, "m.room.topic", sender, "", {"topic": name}, after=after, ts_ms=ts_ms)

    def assume(self, name: str, after: str, **changes: str | None) -> None:
        """A state that some server claims: that after an event, with the event of a key replaced, or gone (None)."""
        state = dict(self.after[after])
        for old, new in changes.items():
            key = self.room.events[f"${old}"].key
            del state[key]
            if new is not None:
                state[key] = f"${new}"
        self.after[name] = state

    def resolved(self, *names: str) -> StateIds:
        """The state of the states after these."""
        return resolve(self.rules, [self.after[name] for name in names], self.source)

    def outcome(self, *names: str) -> set[str]:
        """The events of the resolved state that are not of its beginning."""
        beginning = set(self.after["START"].values()) if "START" in self.after else set()
        return {event_id[1:] for event_id in set(self.resolved(*names).values()) - beginning}


def load_and_resolve(story_rules: Any, state_sets: Sequence[StateIds], source: LazySource) -> StateIds:
    """What a caller does: resolve, load what is asked for, again."""
    while True:
        try:
            return resolve(story_rules, state_sets, source)
        except EventsNeeded as needed:
            source.load(needed.event_ids)

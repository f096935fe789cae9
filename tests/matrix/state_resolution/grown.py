"""Rooms that grow at random: forks, stale auth events, refused events, states that never were."""

from __future__ import annotations

from random import Random
from typing import Any

from annals.matrix.auth_rules import allowed, check_auth_events
from annals.matrix.state_resolution import resolve
from tests.matrix.state_resolution.story import Source, StateIds
from tests.support.room_events import RoomEvents, user

USERS = [user(name) for name in ("alice", "bob", "carol", "dave")]


class GrownRoom:
    """A room of `size` attempts at an event; `states` are the states after those that were accepted."""

    def __init__(self, rng: Random, version: str, size: int) -> None:
        self.rng = rng
        self.room = RoomEvents(version)
        self.rules = self.room.rules
        self.source = Source(self.room.events)
        self.states: dict[str, StateIds] = {"$CREATE": {self.room.create.key: "$CREATE"}}
        for index, step in enumerate(self._beginning(version) + [None] * size):
            self._grow(f"${index:03}", step)

    def state_sets(self, count: int) -> list[StateIds]:
        """States to resolve: real ones, partly replaced by older events or with keys missing."""
        sets = [dict(self.rng.choice(list(self.states.values()))) for _ in range(count)]
        for state in sets:
            for event_id in self.rng.sample(sorted(self.room.events), min(3, len(self.room.events))):
                event = self.room.events[event_id]
                if event.is_state and self.rng.random() < 0.4:
                    state[event.key] = event_id
        return sets

    def _beginning(self, version: str) -> list[Any]:
        levels = {"users": {} if version == "12" else {USERS[0]: 100}}
        return [
            ("m.room.member", USERS[0], USERS[0], {"membership": "join"}),
            ("m.room.power_levels", USERS[0], "", levels),
            ("m.room.join_rules", USERS[0], "", {"join_rule": "public"}),
        ]

    def _grow(self, event_id: str, step: Any) -> None:
        rng = self.rng
        known = list(self.states)
        prev = [known[-1]] if step else rng.sample(known[-6:], min(len(known), rng.choice([1, 1, 2, 3])))
        before = resolve(self.rules, [self.states[other] for other in prev], self.source)
        event_type, sender, state_key, content = step or self._action(before)
        state = {key: self.room.events[other] for key, other in before.items()}
        cited = self.room.cite(state, event_type, sender, state_key, content)
        if step is None and cited and rng.random() < 0.2:
            cited[rng.randrange(len(cited))] = rng.choice(list(self.room.events.values()))
        event = self.room.event(
            event_id, event_type, sender, state_key, content, prev=prev, auth=cited, ts_ms=rng.randrange(50)
        )
        refused = check_auth_events(event, [(other, self.source.rejected(other.event_id)) for other in cited])
        own = {self.room.create.key: self.room.create} | {other.key: other for other in cited}
        if refused or allowed(event, own) or allowed(event, state):
            self.source.refused.add(event_id)
        else:
            self.states[event_id] = before | {event.key: event_id}

    def _action(self, before: StateIds) -> Any:
        rng = self.rng
        sender, target = rng.choice([*USERS, USERS[0], USERS[0]]), rng.choice(USERS)
        match rng.randrange(6):
            case 0 | 1:
                return "m.room.member", target, target, {"membership": "join"}
            case 2:
                return "m.room.member", sender, target, {"membership": rng.choice(["ban", "leave", "invite"])}
            case 3:
                users = {name: rng.choice([0, 50, 100]) for name in rng.sample(USERS[1:], 2)}
                if not self.rules.creators_have_infinite_power:
                    users[USERS[0]] = 100
                return "m.room.power_levels", sender, "", {"users": users}
            case 4:
                return "m.room.join_rules", sender, "", {"join_rule": rng.choice(["public", "public", "invite"])}
        return "m.room.topic", sender, "", {"topic": str(rng.random())}

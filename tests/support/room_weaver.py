"""Rooms made by chance: forks, fights over power, bans, redactions, events that break rules; every event real.

An event is built on any events of the room, not only on its heads, with the state that the oracle has before it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.matrix.building import build_event
from annals.matrix.events import Event
from annals.matrix.identifiers import domain_of
from annals.matrix.room_versions import ROOM_VERSIONS
from tests.support.room_oracle import Oracle, State
from tests.support.rooms import KEY, Driver, received

ALICE, BOB, CAROL, DAVE = USERS = ("@alice:test", "@bob:test", "@carol:peer", "@dave:other")
VERSIONS = ("10", "11", "12")
POWER, RULES, MEMBER = "m.room.power_levels", "m.room.join_rules", "m.room.member"
Wish = tuple[str, str, str | None, dict[str, Any]]


@dataclass
class Weaver:
    """A room that grows; `events` in the order in which they were made."""

    version: str
    rng: random.Random
    room_id: str = ""
    events: list[Event] = field(default_factory=list)
    oracle: Oracle = field(init=False)

    def __post_init__(self) -> None:
        rules = ROOM_VERSIONS[self.version]
        self.oracle = Oracle(rules)
        self.room_id = "" if rules.room_id_is_create_hash else "!woven:test"
        content = {"room_version": self.version} | ({"creator": ALICE} if rules.creator_in_content else {})
        create = self.add(("m.room.create", ALICE, "", content), ())
        self.room_id = create.room_id
        levels = {} if rules.creators_have_infinite_power else {ALICE: 100}
        self.add((MEMBER, ALICE, ALICE, {"membership": "join"}))
        self.add((POWER, ALICE, "", {"users": levels | {BOB: 50}, "events": {"org.free": 0}}))
        self.add((RULES, ALICE, "", {"join_rule": "public"}))
        for user in (BOB, CAROL):
            self.add((MEMBER, user, user, {"membership": "join"}))

    @property
    def rules(self) -> Any:
        """The room version's rules."""
        return self.oracle.rules

    def add(self, wish: Wish, prev: Sequence[str] | None = None, auth: Sequence[str] | None = None) -> Event:
        """Build an event (on the heads, with the right auth events, if not told otherwise); the oracle judges it."""
        event = self.build(wish, prev, auth)
        self.events.append(event)
        self.oracle.receive(event)
        return event

    def build(self, wish: Wish, prev: Sequence[str] | None = None, auth: Sequence[str] | None = None) -> Event:
        """Build an event that nobody judges."""
        event_type, sender, state_key, content = wish
        prev = sorted(self.oracle.extremities)[:10] if prev is None else prev
        auth = self.oracle.permitting(self.oracle.joined(prev), wish) if auth is None else auth
        content = dict(content)
        target = content.pop("redacts", None)
        return build_event(
            self.rules,
            room_id=None if self._makes_room(event_type, state_key) else self.room_id,
            sender=sender,
            type=event_type,
            content=content,
            state_key=state_key,
            redacts=target,
            prev_events=list(prev),
            auth_events=list(auth),
            depth=1 + max((self.oracle.events[event_id].depth for event_id in prev), default=0),
            origin_server_ts=len(self.events) + self.rng.randrange(4),
            server_name=domain_of(sender),
            key=KEY,
        )

    def _makes_room(self, event_type: str, state_key: str | None) -> bool:
        return self.rules.room_id_is_create_hash and (event_type, state_key) == ("m.room.create", "")

    def grow(self, count: int) -> Weaver:
        """Let `count` more things happen."""
        for _ in range(count):
            prev = self._choose_prev()
            wish = self._choose_wish(self.oracle.joined(prev))
            auth = self.oracle.permitting(self.oracle.joined(prev), wish)
            if self.rng.random() < 0.06:
                auth = self._spoil(auth)
            self.add(wish, prev, auth)
        return self

    def _choose_prev(self) -> list[str]:
        rng = self.rng
        chance = rng.random()
        recent = [event.event_id for event in self.events[5:][-12:]]
        if chance < 0.55:
            return sorted(self.oracle.extremities)[:10]
        if chance < 0.85:
            return [rng.choice(recent)]
        return sorted(set(rng.choices(recent, k=rng.randrange(2, 4))))

    def _spoil(self, auth: list[str]) -> list[str]:
        spoilt = list(auth)
        if spoilt and self.rng.random() < 0.5:
            spoilt.remove(self.rng.choice(spoilt))
        else:
            spoilt.append(self.rng.choice(self.events).event_id)
        return spoilt

    def _choose_wish(self, state: State) -> Wish:
        rng, me, you = self.rng, self.rng.choice(USERS), self.rng.choice(USERS)
        number = len(self.events)
        wishes: list[tuple[int, Callable[[], Wish]]] = [
            (6, lambda: ("m.room.message", me, None, {"body": str(number), "msgtype": "m.text"})),
            (3, lambda: ("m.room.topic", rng.choice([ALICE, ALICE, me]), "", {"topic": str(number)})),
            (4, lambda: ("org.free", me, rng.choice("abcde"), {"n": number})),
            (5, lambda: _member(me, me, "join")),
            (1, lambda: _member(me, me, rng.choice(["leave", "knock"]))),
            (3, lambda: _member(rng.choice([ALICE, BOB]), you, rng.choice(["invite", "leave", "ban"]))),
            (3, lambda: self._power_levels(state, rng.choice([ALICE, BOB, me]))),
            (1, lambda: (RULES, ALICE, "", {"join_rule": rng.choice(["public", "invite", "knock"])})),
            (3, lambda: ("m.room.redaction", me, None, {"redacts": rng.choice(self.events).event_id})),
        ]
        return rng.choices([make for _, make in wishes], [weight for weight, _ in wishes])[0]()

    def _power_levels(self, state: State, sender: str) -> Wish:
        event_id = state.get((POWER, ""))
        content = dict(self.oracle.events[event_id].content) if event_id else {}
        creators = {ALICE} if self.rules.creators_have_infinite_power else set()
        users = dict(content.get("users", {}))
        target = self.rng.choice([user for user in USERS if user not in creators])
        users[target] = self.rng.choice([0, 25, 50, 75])
        if self.rng.random() < 0.3:
            content = content | {"redact": self.rng.choice([0, 50, 100])}
        return POWER, sender, "", content | {"users": users}


def _member(sender: str, target: str, membership: str) -> Wish:
    return MEMBER, sender, target, {"membership": membership}


def driver_of(weaver: Weaver, events: Sequence[Event] | None = None, cold: bool = False) -> Driver:
    """The machine, told the room's events (or these) by another server."""
    driver = Driver(weaver.room_id, cold=cold)
    driver.feed(*map(received, weaver.events if events is None else events))
    return driver


def plain_room(version: str = "12") -> Weaver:
    """A public room of alice, bob and carol, with nothing in it yet; alice may all, bob has 50."""
    return Weaver(version, random.Random(0))


def woven(seed: int, version: str, length: int) -> Weaver:
    """The room of a seed: the same in every run."""
    return Weaver(version, random.Random(seed)).grow(length)


def topological_order(rng: random.Random, events: Sequence[Event]) -> list[Event]:
    """The events in another order in which each comes after all that it refers to."""
    waiting = list(events)
    ordered: list[Event] = []
    here: set[str] = set()
    while waiting:
        ready = [event for event in waiting if here.issuperset((*event.prev_events, *event.auth_events))]
        event = rng.choice(ready)
        waiting.remove(event)
        ordered.append(event)
        here.add(event.event_id)
    return ordered

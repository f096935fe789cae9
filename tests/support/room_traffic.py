"""Logs of rooms made by chance: several rooms, forks, state, redactions, events that come before their ancestors."""

from __future__ import annotations

import random
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any

from annals.matrix.events import Event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.rooms.auth_chains import ChainCover
from annals.rooms.heads import Intent
from annals.rooms.needs import Loaded
from annals.rooms.view import learn
from annals.schemas.facts.rooms import PduFact, RoomFact, RoomForgotten
from tests.support.rooms import SERVER, Driver, created, envelope, received, user

NAMES = ("alice", "bob", "carol")


@dataclass
class RoomStory:
    """A room that grows. `facts` is what was logged of it, in order; `driver` the machine's own opinion."""

    driver: Driver
    facts: list[RoomFact] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def feed(self, *facts: RoomFact) -> None:
        """Log facts."""
        self.driver.feed(*facts)
        self.facts.extend(facts)


def numbered_room(version: str, number: int) -> Driver:
    """A public room of alice's; rooms of other numbers have other ids."""
    rules = ROOM_VERSIONS[version]
    room_id = "" if rules.room_id_is_create_hash else f"!room{number}:{SERVER}"
    content: dict[str, Any] = {"room_version": version, "org.number": number}
    if rules.creator_in_content:
        content["creator"] = user("alice")
    scratch = Driver(room_id)
    scratch.view = learn(scratch.view, Loaded(rooms={room_id: None}))
    create = scratch.build(Intent(user("alice"), "m.room.create", content, ""), rules)
    driver = Driver(create.room_id)
    driver.feed(created(create))
    driver.send(user("alice"), "m.room.member", {"membership": "join"}, user("alice"))
    users = {} if rules.creators_have_infinite_power else {user("alice"): 100}
    driver.send(user("alice"), "m.room.power_levels", {"users": users, "events": {"org.state": 0}}, "")
    driver.send(user("alice"), "m.room.join_rules", {"join_rule": "public"}, "")
    return driver


def room_story(rng: random.Random, length: int, version: str, number: int) -> RoomStory:
    """A room with `length` things that happen in it."""
    driver = numbered_room(version, number)
    story = RoomStory(driver, list(driver.tables.facts.values()))
    for number in range(length):
        _happen(story, rng, number)
    return story


def _happen(story: RoomStory, rng: random.Random, number: int) -> None:
    name = user(rng.choice(NAMES))
    kinds: list[tuple[int, Any]] = [
        (6, lambda: Intent(name, "m.room.message", {"body": f"\x00{number}", "msgtype": "m.text"})),
        (2, lambda: Intent(name, "m.room.member", {"membership": rng.choice(["join", "leave"])}, name)),
        (1, lambda: Intent(user("alice"), "m.room.topic", {"topic": str(number)}, "")),
        (1, lambda: Intent(name, "org.state", {"n": number}, f"k\x00{number % 3}")),
        (1, lambda: _redaction(story, rng, name)),
    ]
    intent = rng.choices([make for _, make in kinds], [weight for weight, _ in kinds])[0]()
    rules = story.driver.view.known_header().rules
    assert rules
    event = story.driver.build(intent, rules, now_ms=number)
    way = rng.random()
    if way < 0.7:
        key = f"txn{number}"
        story.feed(created(event, key))
        if rng.random() < 0.1:
            story.feed(created(story.driver.build(intent, rules, now_ms=number + 1), key))
    elif way < 0.85:
        # A child that comes before its parent: parked, then woken.
        child = _child_of(story, event, number)
        story.feed(received(child), received(event))
    else:
        # A fork: two events on the same head.
        other = story.driver.build(Intent(user("alice"), "m.room.message", {"body": "fork"}), rules, now_ms=-number)
        story.feed(received(event), received(other))
    if rng.random() < 0.05:
        story.feed(RoomForgotten(envelope(), story.driver.room_id, name))
    if rng.random() < 0.1:
        story.feed(received(event))
    story.events.append(event)


def _redaction(story: RoomStory, rng: random.Random, name: str) -> Intent:
    target = rng.choice(story.events).event_id if story.events else "$none"
    rules = story.driver.view.known_header().rules
    assert rules
    content = {"redacts": target} if rules.redacts_in_content else {}
    return Intent(name, "m.room.redaction", content, redacts=None if rules.redacts_in_content else target)


def _child_of(story: RoomStory, parent: Event, number: int) -> Event:
    scratch = Driver(story.driver.room_id)
    scratch.tables.__dict__.update(_copied(story.driver.tables.__dict__))
    scratch.view, scratch.offset = story.driver.view, story.driver.offset
    scratch.feed(received(parent))
    rules = story.driver.view.known_header().rules
    assert rules
    return scratch.build(Intent(user("alice"), "m.room.message", {"body": f"child {number}"}), rules, now_ms=number)


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {name: deepcopy(value) if isinstance(value, ChainCover) else copy(value) for name, value in values.items()}


def traffic(rng: random.Random, rooms: int, length: int) -> tuple[list[RoomStory], list[RoomFact]]:
    """Stories of several rooms, and their facts as they come in beside one another."""
    stories = [room_story(rng, length, rng.choice(sorted(ROOM_VERSIONS)), n) for n in range(rooms)]
    waiting = [list(story.facts) for story in stories]
    merged: list[RoomFact] = []
    while any(waiting):
        facts = rng.choice([queue for queue in waiting if queue])
        merged.append(facts.pop(0))
    return stories, merged


def event_ids(facts: list[RoomFact]) -> list[str]:
    """Of the PDUs among facts."""
    return [fact.event_id for fact in facts if isinstance(fact, PduFact)]

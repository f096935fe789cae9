"""Rows 23 and 32: a thousand events that may not be shown stand between two that may: paging goes on past them, and
none of them is shown."""

from __future__ import annotations

from annals.matrix.events import Event
from annals.rooms.heads import Intent
from tests.support.rooms import Driver, fetched, received, user
from tests.support.sync_world import World, ids

MANY = 1_000


def test_paging_goes_on_past_what_is_not_shown(world: World) -> None:
    room = world.room()
    first = world.say(room, "alice", "first").event_id
    rejected = [_by_a_stranger(room, number) for number in range(MANY)]
    with world.at_once():
        world.feed(room, *(received(event) for event in rejected))
    last = world.say(room, "alice", "last").event_id
    found = ids(world.page_back("alice", room, None, None, limit=5))
    assert found[:2] == [last, first]
    assert not set(found) & {event.event_id for event in rejected}
    shown = world.sync("alice", limit=2)["rooms"]["join"][room.room_id]["timeline"]
    assert ids(shown) == [first, last]


def test_outliers_are_not_shown(world: World) -> None:
    room = world.room()
    outlier = world.build(room, "alice", "m.room.message", {"body": "outlier"})
    since = world.sync("alice")["next_batch"]
    world.feed(room, fetched(outlier, "state"))
    world.say(room, "alice")
    assert outlier.event_id not in str(world.sync("alice", since))
    assert outlier.event_id not in ids(world.page_back("alice", room, None, None))


def _by_a_stranger(room: Driver, number: int) -> Event:
    """A message by somebody who is not in the room: every auth check rejects it."""
    rules = room.view.known_header().rules
    assert rules
    return room.build(Intent(user("mallory"), "m.room.message", {"body": str(number)}), rules, number)

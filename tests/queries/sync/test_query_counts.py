"""What a /sync asks of PostgreSQL: at most eight queries however many rooms, and nothing of what did not move."""

from __future__ import annotations

from typing import Any

import pytest

from annals.queries.room_facts import room_facts
from annals.schemas.facts.users import AccountDataSet
from tests.support.projectors import envelope
from tests.support.rooms import user
from tests.support.statements import count_statements
from tests.support.sync_world import World

QUERIES_MAX = 8
#: Tables that only one provider of a /sync reads.
PROVIDERS = {"account_data": "account_data", "receipts": "JOIN receipts r ON", "timelines": "w.number"}


def furnish(world: World, rooms: int) -> None:
    """Rooms of each kind for bob: open and closed ones, invites, one that he left, with receipts and account data."""
    with world.at_once():
        _furnish(world, rooms)


def _furnish(world: World, rooms: int) -> None:
    for number in range(rooms):
        room = world.room()
        if number % 2:
            world.send(room, "alice", "m.room.history_visibility", {"history_visibility": "joined"}, "")
        world.member(room, "bob", "join")
        said = world.say(room, "alice")
        world.read(room, "alice", said)
        world.say(room, "alice")
        if number % 5 == 4:
            world.member(room, "bob", "leave")
        world.put(AccountDataSet(envelope(number, f"k{number}"), user("bob"), room.room_id, "m.tag", b"{}"))
        world.member(world.room(), "alice", "invite", "bob")


def queries_of(world: World, *arguments: Any, **more: Any) -> list[str]:
    with count_statements(world.database) as sent:
        world.sync("bob", *arguments, **more)
    return sent.queries


@pytest.mark.parametrize("more", [{}, {"lazy": True, "include_leave": True}, {"use_state_after": True}])
def test_a_first_sync_asks_the_same_of_few_rooms_and_of_many(world: World, more: dict[str, Any]) -> None:
    furnish(world, 2)
    few = len(queries_of(world, **more))
    furnish(world, 5)
    many = len(queries_of(world, **more))
    assert few <= many <= QUERIES_MAX
    answer = world.sync("bob", **more)
    assert len(answer["rooms"]["join"]) == 6
    assert len(answer["rooms"]["invite"]) == 7


def test_an_old_token_asks_no_more(world: World) -> None:
    since = world.sync("bob")["next_batch"]
    furnish(world, 5)
    assert len(queries_of(world, since)) <= QUERIES_MAX


def test_what_did_not_move_is_not_asked(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    said = world.say(room, "alice")
    since = world.sync("bob")["next_batch"]

    def asked() -> set[str]:
        queries = queries_of(world, since)
        return {name for name, part in PROVIDERS.items() if any(part in query for query in queries)}

    assert len(queries_of(world, since)) == 1  # who is in which rooms
    world.put(AccountDataSet(envelope(1, "k"), user("bob"), None, "m.x", b"{}"))
    assert asked() == {"account_data"}
    since = world.sync("bob", since)["next_batch"]
    world.read(room, "alice", said)
    assert asked() == {"receipts"}
    since = world.sync("bob", since)["next_batch"]
    world.say(room, "alice")
    assert asked() == {"timelines"}


def test_a_message_that_wakes_is_three_queries(world: World) -> None:
    """Who is in which rooms, the timeline, and what is unread: the text of what is told need not be read again."""
    room = world.room()
    world.member(room, "bob", "join")
    for _ in range(3):
        world.say(room, "alice")
    since = world.sync("bob")["next_batch"]
    for said in range(4, 7):
        world.say(room, "alice")
        assert len(queries_of(world, since)) == 3
        answer = world.sync("bob", since)
        assert answer["rooms"]["join"][room.room_id]["unread_notifications"]["notification_count"] == said
        since = answer["next_batch"]


def test_texts_of_unread_events_are_read_once(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    for number in range(5):
        world.say(room, "alice", f"{number} {user('bob')}")
    since = world.sync("alice")["next_batch"]
    world.say(room, "alice")

    def texts() -> int:
        return sum("w(room_id, event_id)" in query for query in queries_of(world, since))

    # Four of them are in no timeline that is told.
    assert [texts(), texts()] == [1, 0]
    world.send(room, "alice", "m.room.power_levels", {"users": {}, "notifications": {"room": 1}}, "")
    assert texts() == 1, "judged by other power levels"
    assert texts() == 0


def test_what_moved_elsewhere_is_one_query(world: World) -> None:
    room = world.room()
    world.member(room, "bob", "join")
    other = world.room()
    since = world.sync("bob")["next_batch"]
    for _ in range(3):
        world.say(other, "alice")
    assert len(queries_of(world, since)) == 1


def test_members_are_counted_as_far_as_somebody_asks(world: World) -> None:
    """Of a large room only a summary needs the number of all."""
    room = world.room()
    for name in ("bob", "carol", "dave", "erin"):
        world.member(room, name, "join")
    world.member(room, "alice", "invite", "frank")
    world.read(room, "erin", world.say(room, "alice"))

    def counted(name: str, *heroes: str) -> tuple[int, int, int]:
        facts = world.database.read_now(lambda s: room_facts(s, [room.room_id], heroes, user(name)))[room.room_id]
        return facts.joined, facts.invited, len(facts.unread)

    assert counted("bob", room.room_id)[:2] == (5, 1)
    assert counted("bob")[:2] == (3, 0)
    assert counted("erin") == (0, 0, 0), "nothing is unread"

"""A name is changed while its user comes into a room: whatever the order, the room ends with the newest name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import combinations

import pytest

from annals.commands.rooms.creation import RoomRequest
from tests.support.folded_apart import ROOMS, USERS, Order, Process, World, folded_apart
from tests.support.postgres import PostgresServer
from tests.support.rooms import SERVER

ALICE = f"@alice:{SERVER}"
#: of who comes into a room: reads the profile; appends; the tables have the event; looks at the profile again
COMES = "rsdl"
#: of who changes the name: lists the rooms; the fact is on the log; the tables have it; the worker carries it on
CHANGES = "abcw"
#: The name changes after the look, and the list is of before; or all of the change is done before the event is there.
LIST_IS_OLD, EVENT_IS_LATE = "arsdlbcw", "rabcwsdl"
_SHOWN_SQL = """
    SELECT e.client_json FROM current_state c JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
    WHERE c.room_id = %s AND c.type = 'm.room.member' AND c.state_key = %s
"""
_LEFT_SQL = "SELECT 1 FROM commands WHERE state = 'started'"


@pytest.fixture(scope="module")
def world(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all orders: each has users and rooms of its own."""
    with folded_apart(postgres, tmp_path_factory.mktemp("apart")) as made:
        yield made


@pytest.fixture(scope="module")
def public_room(world: World) -> str:
    """A room that anybody may join."""
    return asyncio.run(world.process().rooms.create(RoomRequest(ALICE, preset="public_chat"), None, "made"))


def every_order() -> Iterator[str]:
    """All ways of doing both side by side, but that nobody says when it is that who comes appends."""
    comes = COMES.replace("s", "")
    count = len(comes) + len(CHANGES)
    for places in combinations(range(count), len(comes)):
        coming, changing = iter(comes), iter(CHANGES)
        yield "".join(next(coming) if place in places else next(changing) for place in range(count))


async def come(process: Process, how: str, user_id: str, room_id: str) -> str:
    """Into a room, whose id it gives."""
    if how == "join":
        await process.rooms.join(user_id, room_id, None, {}, "come")
        return room_id
    if how == "create":
        return await process.rooms.create(RoomRequest(user_id), None, "come")
    return await process.rooms.upgrade(room_id, user_id, "12", (), "come")


async def both(world: World, order: Order, how: str, user_id: str, room_id: str) -> str:
    """Come into a room and change the name, in this order; the room."""
    comes = world.process(order, shows="rl", appends="s", folds={ROOMS: "d"})
    changes = world.process(order, lists="a", appends="b", folds={USERS: "c"})
    carries_on = world.process().worker

    async def change() -> None:
        await changes.profiles.set_field(user_id, "displayname", "new")
        async with order.turn("w"):
            await carries_on.run_pass()

    coming = asyncio.create_task(order.act(COMES, come(comes, how, user_id, room_id)))
    await asyncio.gather(coming, order.act(CHANGES, change()))
    world.fold(USERS)
    while world.rows(_LEFT_SQL):
        assert await carries_on.run_pass()
    return await coming


def shown(world: World, room_id: str, user_id: str) -> str | None:
    """The name that the room shows of a member."""
    [(text,)] = world.rows(_SHOWN_SQL, (room_id, user_id))
    content = json.loads(text)["content"]
    assert content["membership"] == "join"
    name: str | None = content.get("displayname")
    return name


def test_of_who_joins_in_every_order(world: World, public_room: str) -> None:
    for order in every_order():
        user_id = f"@{order}:{SERVER}"
        room_id = asyncio.run(both(world, Order(order), "join", user_id, public_room))
        assert shown(world, room_id, user_id) == "new", order


@pytest.mark.parametrize("order", [LIST_IS_OLD, EVENT_IS_LATE])
@pytest.mark.parametrize("how", ["create", "upgrade"])
def test_of_who_makes_a_room(world: World, how: str, order: str) -> None:
    user_id = f"@{how}-{order}:{SERVER}"
    old_id = asyncio.run(world.process().rooms.create(RoomRequest(user_id), "11", "made")) if how == "upgrade" else ""
    room_id = asyncio.run(both(world, Order(order), how, user_id, old_id))
    assert shown(world, room_id, user_id) == "new"

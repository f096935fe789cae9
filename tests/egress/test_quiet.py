"""Rooms without other servers: nobody reads for their sake, and all is read in the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from annals.egress import sender as sending_module
from annals.egress.quiet import QuietRooms
from annals.egress.vectors import ROOMS
from annals.projectors.notices import POLICY, SERVERS, Notice
from annals.schemas.position import step_start
from tests.support.egress_world import membership, sending
from tests.support.patience import PATIENCE_S
from tests.support.sync_world import World

_HERE, _SHARED = "!here", "!shared"


def _notice(*rooms: str, errands: frozenset[str] | None = frozenset(), topic: str = ROOMS, **more: Any) -> Notice:
    return Notice("g1", {(topic, 0): 9}, frozenset(rooms), frozenset(), errands=errands, **{"everything": False} | more)


@pytest.fixture
def quiet() -> QuietRooms:
    rooms = QuietRooms()
    rooms.begin()
    rooms.found([_HERE, _SHARED], [_HERE])
    return rooms


def test_only_what_nobody_elsewhere_is_in_is_passed_over(quiet: QuietRooms) -> None:
    assert not quiet.concerns(_notice(_HERE))
    assert not quiet.concerns(_notice(_HERE, errands=frozenset([POLICY])))
    assert quiet.concerns(_notice(_SHARED))
    assert quiet.concerns(_notice(_HERE, _SHARED))
    assert quiet.concerns(_notice("!unknown"))


def test_what_happened_to_users_and_receipts_is_nothing_to_send(quiet: QuietRooms) -> None:
    assert not quiet.concerns(_notice(_SHARED, topic="receipts"))
    assert not quiet.concerns(_notice(topic="users"))


def test_where_somebody_of_elsewhere_comes_it_is_read_anew(quiet: QuietRooms) -> None:
    assert quiet.concerns(_notice(_HERE, errands=frozenset([SERVERS])))
    assert quiet.concerns(_notice(_HERE))
    quiet.begin()
    quiet.found([_HERE], [])
    assert quiet.concerns(_notice(_HERE))


def test_who_comes_while_it_is_read_is_not_overlooked(quiet: QuietRooms) -> None:
    quiet.begin()
    quiet.concerns(_notice(_HERE, errands=frozenset([SERVERS])))
    quiet.found([_HERE], [_HERE])
    assert quiet.concerns(_notice(_HERE))
    quiet.begin()
    quiet.found([_HERE], [_HERE])
    assert not quiet.concerns(_notice(_HERE))


@pytest.mark.parametrize("unknown", [{"everything": True}, {"errands": None}])
def test_where_the_notice_does_not_say_it_nothing_is_known_of_any_room(
    quiet: QuietRooms, unknown: dict[str, Any]
) -> None:
    quiet.begin()
    assert quiet.concerns(_notice(**unknown))
    quiet.found([_HERE], [_HERE])
    assert quiet.concerns(_notice(_HERE))


@pytest.mark.anyio
async def test_what_is_passed_over_is_read_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending_module, "QUIET_S", 0.001)
    alone, shared = world.room(), world.room()
    world.feed(shared, membership(shared, "@bob:peer.one"))
    async with sending(world) as out:
        world.say(alone, "alice")
        world.say(shared, "alice")
        await out.settled(world)
        assert out.egress.sender is not None
        sender = out.egress.sender
        quiet = sender._quiet
        assert not quiet.concerns(_notice(alone.room_id))
        assert quiet.concerns(_notice(shared.room_id))
        world.say(alone, "alice")
        ends = tuple(step_start(end) for end in world.log.ends(ROOMS))
        assert sender.position != ends
        async with asyncio.timeout(PATIENCE_S):
            while sender.position != ends:
                out.egress.moved(_notice(alone.room_id))
                await asyncio.sleep(0.005)
        # Somebody of elsewhere comes: from then on the room is not passed over.
        world.feed(alone, membership(alone, "@bob:peer.one"))
        out.egress.moved(_notice(alone.room_id, errands=frozenset([SERVERS])))
        await out.settled(world)
        assert quiet.concerns(_notice(alone.room_id))

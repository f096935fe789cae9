"""Typing, receipts and presence of our users, to the servers that are in the room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from annals.schemas.facts.ephemeral import PresenceSet, TypingSet
from annals.schemas.facts.receipts import ReceiptSet
from tests.support.egress_world import Out, Peers, membership, sending, unreachable
from tests.support.projectors import append, envelope
from tests.support.rooms import user
from tests.support.sync_world import NOW_MS, World

pytestmark = pytest.mark.anyio

ONE, TWO = "peer.one", "peer.two"
BOB, CAROL = f"@bob:{ONE}", f"@carol:{TWO}"


def types(world: World, room_id: str, user_id: str, until_ms: int = NOW_MS + 30_000) -> None:
    append(world.log, [TypingSet(envelope(1), room_id, user_id, until_ms)])


def typing_of(out: Out, server: str) -> list[tuple[str, bool]]:
    """(user, whether they type) of each typing EDU that a server got."""
    contents = [edu["content"] for edu in out.peers.edus(server) if edu["edu_type"] == "m.typing"]
    return [(content["user_id"], content["typing"]) for content in contents]


async def test_who_types_is_told_to_the_servers_in_the_room_and_when_they_stop(world: World) -> None:
    room, alone = world.room(), world.room()
    world.feed(room, membership(room, BOB))
    async with sending(world) as out:
        types(world, alone.room_id, user("alice"))
        types(world, room.room_id, BOB)  # other servers speak for their own
        types(world, room.room_id, user("alice"))
        await out.until(lambda: len(typing_of(out, ONE)) == 1)
        types(world, room.room_id, user("alice"), 0)
        await out.until(lambda: len(typing_of(out, ONE)) == 2)
        # Who comes is told; who went is not.
        world.feed(room, membership(room, CAROL))
        world.feed(room, membership(room, BOB, "leave"))
        types(world, room.room_id, user("alice"))
        await out.until(lambda: typing_of(out, TWO))
        await out.settled(world)
    alice = user("alice")
    assert typing_of(out, ONE) == [(alice, True), (alice, False)]
    assert typing_of(out, TWO) == [(alice, True)]
    assert {edu["content"]["room_id"] for edu in out.peers.edus(ONE)} == {room.room_id}


async def test_who_never_said_that_they_stopped_has_stopped_when_the_time_is_over(world: World) -> None:
    room = world.room()
    world.feed(room, membership(room, BOB))
    async with sending(world) as out:
        types(world, room.room_id, user("alice"), NOW_MS + 50)
        await out.until(lambda: typing_of(out, ONE))
        out.clock[0] += 50
        await out.until(lambda: len(typing_of(out, ONE)) == 2)
    assert typing_of(out, ONE) == [(user("alice"), True), (user("alice"), False)]


async def test_public_receipts_of_our_users_go_out_and_private_ones_do_not(world: World) -> None:
    room = world.room()
    world.feed(room, membership(room, BOB))
    event = world.say(room, "alice")
    async with sending(world) as out:

        def reads(user_id: str, kind: str, thread: str | None = None) -> None:
            append(world.log, [ReceiptSet(envelope(1), room.room_id, user_id, kind, event.event_id, thread, NOW_MS)])

        reads(user("dora"), "m.read.private")
        reads(BOB, "m.read")
        reads(user("alice"), "m.read")
        reads(user("alice"), "m.read", "main")
        await out.until(lambda: len(out.peers.edus(ONE)) == 2)
        await out.settled(world)
    plain: dict[str, Any] = {"data": {"ts": NOW_MS}, "event_ids": [event.event_id]}
    threaded = plain | {"data": {"ts": NOW_MS, "thread_id": "main"}}
    assert out.peers.edus(ONE) == [
        {"edu_type": "m.receipt", "content": {room.room_id: {"m.read": {user("alice"): receipt}}}}
        for receipt in (plain, threaded)
    ]


async def test_a_hundred_edus_in_a_transaction(world: World) -> None:
    room = world.room()
    world.feed(room, membership(room, BOB))
    async with sending(world) as out:
        assert out.egress.sender is not None
        for number in range(230):
            out.egress.sender.send_edu([ONE], ("k", str(number)), {"edu_type": "org.test", "content": {"n": number}})
        await out.until(lambda: len(out.peers.edus(ONE)) == 230)
    assert [edu["content"]["n"] for edu in out.peers.edus(ONE)] == list(range(230))
    assert max(len(put.content["edus"]) for put in out.peers.puts[ONE]) == 100


async def test_a_server_that_fails_is_not_told_later_who_typed(world: World) -> None:
    room = world.room()
    world.feed(room, membership(room, BOB))
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        said = world.say(room, "alice")
        await out.until(lambda: ONE in out.destinations() and out.destinations()[ONE].backoff is not None)
        types(world, room.room_id, user("alice"))
        world.feed(room, membership(room, CAROL))
        types(world, room.room_id, user("dora"))
        await out.until(lambda: (user("dora"), True) in typing_of(out, TWO))
        del peers.down[ONE]
        out.later(15_000)
        await out.until(lambda: peers.got(ONE))
        await out.settled(world)
    assert peers.got(ONE) == [said.event_id]
    assert peers.edus(ONE) == []


def is_there(world: World, user_id: str, state: str = "online", status: bytes | None = None) -> None:
    fact = PresenceSet(envelope(1), user_id, state, status, NOW_MS - 7, state == "online", NOW_MS + 60_000, "us")
    append(world.log, [fact])


def presence_of(out: Out, server: str) -> list[Any]:
    """The updates of the presence EDUs that a server got."""
    edus = [edu["content"] for edu in out.peers.edus(server) if edu["edu_type"] == "m.presence"]
    return [update for content in edus for update in content["push"]]


async def test_presence_goes_to_the_servers_of_a_users_rooms_once_a_change(world: World) -> None:
    alice = user("alice")
    room, other = world.room(), world.room()
    world.feed(room, membership(room, BOB))
    world.feed(other, membership(other, CAROL))
    world.member(other, "dora", "join")
    async with sending(world) as out:
        is_there(world, BOB)  # other servers speak for their own
        is_there(world, user("erik"))  # in no room
        is_there(world, alice, status=b"hello")
        await out.until(lambda: presence_of(out, ONE) and presence_of(out, TWO))
        is_there(world, alice, status=b"hello")  # it is said again, which nobody needs to hear
        is_there(world, user("dora"))
        await out.until(lambda: len(presence_of(out, TWO)) == 2)
        is_there(world, alice, "offline")
        await out.until(lambda: len(presence_of(out, ONE)) == 2)
        await out.settled(world)
    online = {"user_id": alice, "presence": "online", "last_active_ago": 7, "currently_active": True}
    gone = {"user_id": alice, "presence": "offline", "last_active_ago": 7}
    assert presence_of(out, ONE) == [online | {"status_msg": "hello"}, gone]
    assert [update["user_id"] for update in presence_of(out, TWO)] == [alice, user("dora"), alice]


async def test_who_stays_is_told_again_before_others_stop_believing_it(world: World) -> None:
    room = world.room()
    world.feed(room, membership(room, BOB))
    async with sending(world) as out:
        is_there(world, user("alice"))
        await out.until(lambda: len(presence_of(out, ONE)) == 1)
        out.clock[0] += 1_500_000
        is_there(world, user("alice"))
        await out.until(lambda: len(presence_of(out, ONE)) == 2)


async def test_whoever_was_not_told_who_is_there_is_told_when_it_is_said_again(world: World) -> None:
    alice, room = user("alice"), world.room()
    world.feed(room, membership(room, BOB), membership(room, CAROL))
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        world.say(room, "alice")
        await out.until(lambda: ONE in out.destinations() and out.destinations()[ONE].backoff is not None)
        is_there(world, alice)
        await out.until(lambda: presence_of(out, TWO))
        del peers.down[ONE]
        out.egress.heard_from(ONE)
        await out.until(lambda: peers.got(ONE))
        is_there(world, alice)
        await out.until(lambda: presence_of(out, ONE))
        world.feed(room, membership(room, "@eve:peer.three"))
        is_there(world, alice)
        await out.until(lambda: presence_of(out, "peer.three"))
        await out.settled(world)
    # Nobody hears of it twice.
    told = {server: [update["user_id"] for update in presence_of(out, server)] for server in (ONE, TWO, "peer.three")}
    assert told == {ONE: [alice], TWO: [alice], "peer.three": [alice]}


async def test_a_server_that_failed_and_talks_to_us_is_told_who_is_there(world: World) -> None:
    """Though it has not taken anything yet since."""
    room, peers = world.room(), Peers(down={ONE: unreachable})
    world.feed(room, membership(room, BOB))
    async with sending(world, peers) as out:
        said = world.say(room, "alice")
        await out.until(lambda: ONE in out.destinations() and out.destinations()[ONE].backoff is not None)
        del peers.down[ONE]
        peers.gates[ONE] = asyncio.Event()
        attempts = len(peers.attempts[ONE])
        out.egress.heard_from(ONE)
        await out.until(lambda: len(peers.attempts[ONE]) > attempts)
        is_there(world, user("alice"))
        assert out.egress.sender is not None
        destination = out.egress.sender.destinations[ONE]
        await out.until(lambda: bool(destination.edus))
        peers.gates[ONE].set()
        await out.until(lambda: presence_of(out, ONE))
    assert peers.got(ONE) == [said.event_id]

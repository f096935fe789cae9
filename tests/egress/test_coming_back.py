"""Servers that were away, restarts of ours, and what each of them misses: nothing within an hour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from annals.database.listen import Listener
from annals.egress.heard import FAILING_CHANNEL, HeardFrom
from annals.egress.lanes import Lanes, Places
from annals.schemas.facts.rooms import RoomFact
from tests.support.egress_world import Out, Peers, membership, sending, unreachable
from tests.support.rooms import Driver
from tests.support.sync_world import NOW_MS, World

pytestmark = pytest.mark.anyio

ONE, TWO = "peer.one", "peer.two"
BOB, CAROL = f"@bob:{ONE}", f"@carol:{TWO}"
MINUTE_MS = 60_000


def shared(world: World, *users: str) -> Driver:
    room = world.room()
    for user_id in users:
        world.feed(room, membership(room, user_id))
    return room


def fails(out: Out, server: str) -> bool:
    """Whether a server failed, and is left alone."""
    destination = out.destinations().get(server)
    return destination is not None and destination.backoff is not None and not destination.busy


async def test_a_restart_goes_on_where_the_last_one_stopped(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers()
    async with sending(world, peers) as out:
        said = [world.say(room, "alice").event_id]
        await out.until(lambda: peers.got(ONE))
        await out.settled(world)
    said += [world.say(room, "alice", str(n)).event_id for n in range(3)]
    async with sending(world, peers, "second") as out:
        await out.until(lambda: len(peers.got(ONE)) == 4)
        await out.settled(world)
    assert peers.got(ONE) == said


async def test_what_is_under_way_when_we_are_killed_comes_again_and_nothing_is_lost(world: World) -> None:
    room = shared(world, BOB, CAROL)
    peers = Peers(gates={ONE: asyncio.Event()})
    async with sending(world, peers) as out:
        with world.at_once():
            said = [world.say(room, "alice", str(n)).event_id for n in range(70)]
        await out.until(lambda: len(peers.got(TWO)) == 70 and peers.attempts[ONE])
        await asyncio.sleep(0)
    # The end of the block cancelled what waited for an answer.
    peers.gates[ONE].set()
    async with sending(world, peers, "second") as out:
        await out.until(lambda: len(peers.got(ONE)) == 70)
        await out.settled(world)
    assert peers.got(ONE) == said
    assert list(dict.fromkeys(peers.got(TWO))) == said
    assert peers.puts[ONE][0].txn_id != peers.attempts[ONE][0].txn_id


async def test_the_wait_outlives_a_restart_and_grows(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        said = world.say(room, "alice")
        await out.until(lambda: fails(out, ONE))
        first = out.destinations()[ONE].backoff
        out.later(15_000)
        await out.until(lambda: len(peers.attempts[ONE]) == 2 and fails(out, ONE))
        second = out.destinations()[ONE].backoff
        assert second.interval_ms == 2 * first.interval_ms
        assert second.failing_since_ms == first.failing_since_ms
    async with sending(world, peers, "second", at_ms=NOW_MS + 16_000) as out:
        assert out.destinations()[ONE].backoff == second
        await out.settled(world)
        out.later(1_000)
        assert len(peers.attempts[ONE]) == 2
        del peers.down[ONE]
        out.later(MINUTE_MS)
        await out.until(lambda: peers.got(ONE))
        assert out.destinations()[ONE].backoff is None
    assert peers.got(ONE) == [said.event_id]


async def test_away_for_less_than_an_hour_everything_comes_in_order(world: World) -> None:
    """More than is kept in memory, in several rooms, and with a member that came and went meanwhile."""
    rooms = [shared(world, BOB), shared(world, BOB, CAROL)]
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        expected: dict[str, list[str]] = {room.room_id: [] for room in rooms}
        expected[rooms[0].room_id].append(world.say(rooms[0], "alice").event_id)
        await out.until(lambda: fails(out, ONE))
        for _ in range(6):
            with world.at_once():
                for room in rooms:
                    expected[room.room_id] += [world.say(room, "alice", str(n)).event_id for n in range(60)]
            await out.settled(world)
        world.feed(rooms[1], membership(rooms[1], BOB, "leave"))
        world.say(rooms[1], "alice", "not for them")
        await out.settled(world)
        assert len(out.destinations()[ONE].queue) <= 500
        del peers.down[ONE]
        out.later(59 * MINUTE_MS)
        await out.until(lambda: len(peers.got(ONE)) >= 721)
        await out.settled(world)
        assert out.destinations()[ONE].low is None
        # And it goes on as before.
        expected[rooms[0].room_id].append(world.say(rooms[0], "alice", "back").event_id)
        await out.until(lambda: len(peers.got(ONE)) >= 722)
    got: dict[str, list[str]] = {room.room_id: [] for room in rooms}
    for pdu, event_id in zip(peers.pdus(ONE), peers.got(ONE), strict=True):
        got[pdu["room_id"]].append(event_id)
    assert got == expected
    assert max(len(put.content["pdus"]) for put in peers.puts[ONE]) == 50


async def test_away_for_more_than_an_hour_the_latest_of_each_room_comes(world: World) -> None:
    rooms = [shared(world, BOB) for _ in range(3)]
    left = shared(world, BOB, CAROL)
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        world.say(rooms[0], "alice")
        await out.until(lambda: fails(out, ONE))
        latest = {}
        for room in rooms[:2]:
            for n in range(60):
                latest[room.room_id] = world.say(room, "alice", str(n)).event_id
        world.say(left, "alice")
        world.feed(left, membership(left, BOB, "leave"))
        world.say(left, "alice", "not for them")
        await out.settled(world)
        out.later(61 * MINUTE_MS)
        await out.until(lambda: len(peers.attempts[ONE]) == 2 and fails(out, ONE))
        del peers.down[ONE]
    # A restart does not make it forget what it was about.
    async with sending(world, peers, "second", at_ms=NOW_MS + 120 * MINUTE_MS) as out:
        await out.until(lambda: len(peers.got(ONE)) >= 2)
        await out.settled(world)
        assert out.destinations()[ONE].low is None
        back = world.say(rooms[2], "alice", "back")
        await out.until(lambda: len(peers.got(ONE)) >= 3)
    got = peers.got(ONE)
    assert set(got[:-1]) == set(latest.values()), "the last of the left room was not for them"
    assert got[-1] == back.event_id


async def test_a_server_that_talks_to_us_is_tried_at_once(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out, heard_from(world) as told:
        said = world.say(room, "alice")
        await out.until(lambda: fails(out, ONE))
        await told.start()
        del peers.down[ONE]
        # The time stands still: only what was heard makes it try.
        await out.until(lambda: _say(told) or peers.got(ONE))
        # And from then on as any other, though its time has not come.
        more = world.say(room, "alice", "more")
        await out.until(lambda: len(peers.got(ONE)) == 2)
    assert peers.got(ONE) == [said.event_id, more.event_id]


@asynccontextmanager
async def heard_from(world: World) -> AsyncIterator[HeardFrom]:
    """What a process that is talked to has, not started yet; closed at the end."""
    listener = Listener(world.database.url, [FAILING_CHANNEL])
    await listener.start()
    told = HeardFrom(world.database, listener, lambda: NOW_MS)
    try:
        yield told
    finally:
        await told.close()
        await listener.close()


def _say(told: HeardFrom) -> bool:
    for server in (ONE, TWO):
        told(server)
    return False


async def test_who_is_stopped_while_it_stores_stores_it_yet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shared(world, BOB)
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        world.say(room, "alice")
        await out.until(lambda: fails(out, ONE) and stored(world))
        storing = asyncio.Event()

        async def never(*_: object) -> None:
            storing.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr(world.database, "write", never)
            del peers.down[ONE]
            out.later(MINUTE_MS)
            await out.until(lambda: peers.got(ONE) and storing.is_set() and not out.destinations()[ONE].busy)
            # The lease's renewal may be what is held: then the next look is what is stored.
            await asyncio.sleep(1.2)
    assert stored(world) == []


def stored(world: World) -> list[tuple[object, ...]]:
    """The destinations that fail, as the next process finds them."""
    return world.database.read_now(
        lambda snapshot: snapshot.rows("SELECT server FROM ops.destinations WHERE retry_at_ms IS NOT NULL")
    )


async def test_who_does_not_fail_is_not_asked_about_in_the_database(world: World) -> None:
    statements: list[str] = []
    async with heard_from(world) as told:
        await told.start()
        world.database.on_statement = statements.append
        try:
            for _ in range(100):
                told(ONE)
            await asyncio.sleep(0.05)
            assert statements == []
        finally:
            world.database.on_statement = None


async def test_only_one_process_sends(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers()
    async with sending(world, peers) as out:
        other = asyncio.create_task(_stand_by(world, peers))
        said = world.say(room, "alice")
        await out.until(lambda: peers.got(ONE))
        await out.settled(world)
        assert not other.done()
        other.cancel()
    assert peers.got(ONE) == [said.event_id]


async def _stand_by(world: World, peers: Peers) -> None:
    async with sending(world, peers, "other"):
        raise AssertionError("two hold the lease")


async def test_thousands_that_never_answer_keep_none_waiting_that_do(world: World) -> None:
    """Nothing is timed: the dead never answer at all, and each of the living has everything all the same."""
    dead = [f"dead{n}.example" for n in range(300)]
    living = [f"live{n}.example" for n in range(30)]
    room = world.room()
    with world.at_once():
        facts: list[RoomFact] = [membership_at(room, f"@u:{server}") for server in (*dead, *living)]
        world.put(*facts)
    peers = Peers(gates={server: asyncio.Event() for server in dead})
    lanes = Lanes(Places(living=4, unknown=len(dead) + 5, failing=2))
    async with sending(world, peers, lanes=lanes) as out:
        first = world.say(room, "alice", "first")
        await out.until(lambda: all(peers.got(server) for server in living))
        said = [first.event_id, *(world.say(room, "alice", str(n)).event_id for n in range(5))]
        await out.until(lambda: all(len(peers.got(server)) == 6 for server in living))
        assert all(len(peers.attempts[server]) == 1 for server in dead)
    assert all(peers.got(server) == said for server in living)


async def test_who_is_not_known_does_not_keep_a_place_that_others_wait_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annals.egress.lanes.SOON_S", 0.01)
    monkeypatch.setattr("annals.egress.lanes.UNKNOWN_TIMEOUT_S", 0.01)
    dead, living = [f"dead{n}.example" for n in range(12)], ["live1.example", "live2.example"]
    room = world.room()
    world.put(*[membership_at(room, f"@u:{server}") for server in (*dead, *living)])
    peers = Peers(gates={server: asyncio.Event() for server in dead})
    async with sending(world, peers, lanes=Lanes(Places(living=1, unknown=2, aside=1, failing=1))) as out:
        said = world.say(room, "alice")
        await out.until(lambda: all(peers.got(server) for server in living))
        assert all(peers.got(server) == [said.event_id] for server in living)
        # The last three have their places for as long as nobody else wants them. Where the living happen to come last,
        # there are fewer of the dead among these.
        await out.until(lambda: sum(fails(out, server) for server in dead) >= len(dead) - 3)
        await asyncio.sleep(0.05)
        assert sum(fails(out, server) for server in dead) < len(dead)


async def test_who_does_not_answer_soon_steps_aside_and_loses_nothing_by_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is broken off: the first message reaches the living past as many as may stand aside, each asked once."""
    monkeypatch.setattr("annals.egress.lanes.SOON_S", 0.01)
    monkeypatch.setattr("annals.egress.lanes.UNKNOWN_TIMEOUT_S", 600.0)
    silent = [f"silent{n}.example" for n in range(12)]
    room = world.room()
    world.put(*[membership_at(room, f"@u:{server}") for server in (*silent, "live.example")])
    peers = Peers(gates={server: asyncio.Event() for server in silent})
    async with sending(world, peers, lanes=Lanes(Places(living=1, unknown=2, aside=len(silent), failing=1))) as out:
        said = world.say(room, "alice")
        await out.until(lambda: peers.got("live.example") == [said.event_id])
        await out.until(lambda: all(len(peers.attempts[server]) == 1 for server in silent))
        assert not any(fails(out, server) for server in silent)
        for gate in peers.gates.values():
            gate.set()
        await out.until(lambda: all(peers.got(server) == [said.event_id] for server in silent))
        await out.settled(world)
    assert all(len(peers.attempts[server]) == 1 for server in silent)


async def test_no_more_are_under_way_than_there_are_places(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annals.egress.lanes.SOON_S", 0.01)
    monkeypatch.setattr("annals.egress.lanes.UNKNOWN_TIMEOUT_S", 600.0)
    silent = [f"silent{n}.example" for n in range(12)]
    room = world.room()
    world.put(*[membership_at(room, f"@u:{server}") for server in silent])
    peers = Peers(gates={server: asyncio.Event() for server in silent})
    async with sending(world, peers, lanes=Lanes(Places(living=1, unknown=2, aside=3, failing=1))) as out:
        world.say(room, "alice")
        await out.until(lambda: len(peers.attempts) == 5)
        await asyncio.sleep(0.05)
        assert sum(map(len, peers.attempts.values())) == 5
        for gate in peers.gates.values():
            gate.set()
        await out.until(lambda: all(len(peers.got(server)) == 1 for server in silent))


async def test_the_dead_that_are_due_take_few_places(world: World) -> None:
    dead = [f"dead{n}.example" for n in range(40)]
    room = world.room()
    with world.at_once():
        world.put(*[membership_at(room, f"@u:{server}") for server in (*dead, "live.example")])
    peers = Peers(down=dict.fromkeys(dead, unreachable))
    async with sending(world, peers, lanes=Lanes(Places(living=1, unknown=3, failing=3))) as out:
        world.say(room, "alice")
        await out.until(lambda: all(fails(out, server) for server in dead))
        peers.gates = {server: asyncio.Event() for server in dead}
        before = sum(len(peers.attempts[server]) for server in dead)
        out.later(MINUTE_MS)
        await out.until(lambda: sum(len(peers.attempts[server]) for server in dead) == before + 3)
        last = world.say(room, "alice", "last")
        await out.until(lambda: last.event_id in peers.got("live.example"))
        assert sum(len(peers.attempts[server]) for server in dead) == before + 3
        for gate in peers.gates.values():
            gate.set()
        await out.until(lambda: sum(len(peers.attempts[server]) for server in dead) == before + len(dead))


def membership_at(room: Driver, user_id: str) -> RoomFact:
    """A join, fed to the driver at once."""
    fact = membership(room, user_id)
    room.feed(fact)
    return fact

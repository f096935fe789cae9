"""A decision that a switch of generations changed sends nothing, and what both had accepted is sent once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from annals.database.migrate import create_generation
from annals.database.statements import Statements
from tests.support.egress_world import Peers, membership, sending, unreachable
from tests.support.rooms import Driver
from tests.support.sync_world import NOW_MS, World

pytestmark = pytest.mark.anyio

ONE = "peer.one"
BOB = f"@bob:{ONE}"
_TABLES = ("events", "current_state", "current_state_deltas", "positions")


def shared(world: World) -> Driver:
    room = world.room()
    world.feed(room, membership(room, BOB))
    return room


@contextmanager
def switch(world: World, *changes: tuple[str, str]) -> Iterator[None]:
    """Another generation with the same rows, but that it judges some events otherwise; inside, it serves."""
    create_generation(world.database.url, "g2")
    ends = [["rooms", partition, end] for partition, end in enumerate(world.log.ends("rooms"))]

    def flip(statements: Statements) -> None:
        for table in _TABLES:
            statements.execute(f"DELETE FROM g2.{table}")
            statements.execute(f"INSERT INTO g2.{table} SELECT * FROM g1.{table}")
        for event_id, verdict in changes:
            statements.execute("UPDATE g2.events SET verdict = %s WHERE event_id = %s", (verdict, event_id))
        statements.execute("UPDATE ops.serving SET generation = 'g2'")
        statements.execute(
            "INSERT INTO ops.switches (switch, generation, previous, vector, rooms, actor, reason)"
            " VALUES ('s', 'g2', 'g1', %s, '{}', 'olga', 'a test')",
            (json.dumps(ends),),
        )

    world.database.write_now(flip)
    yield
    world.database.write_now(lambda statements: statements.execute("UPDATE ops.serving SET generation = 'g1'"))


def judge(world: World, event_id: str, verdict: str) -> None:
    """Make the generation that serves now believe something."""
    world.database.write_now(
        lambda statements: statements.execute(
            "UPDATE g1.events SET verdict = %s WHERE event_id = %s", (verdict, event_id)
        )
    )


async def test_below_a_switch_only_what_both_accepted_goes_out(world: World) -> None:
    room = shared(world)
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        both = [world.say(room, "alice", "both").event_id]
        await out.settled(world)
    only_old, only_new = world.say(room, "alice", "old").event_id, world.say(room, "alice", "new").event_id
    both.append(world.say(room, "alice", "both").event_id)
    judge(world, only_new, "soft_failed")
    del peers.down[ONE]
    with switch(world, (only_old, "rejected"), (only_new, "accepted")):
        async with sending(world, peers, "second", at_ms=NOW_MS + 20_000) as out:
            out.later(0)
            await out.until(lambda: len(peers.got(ONE)) >= 2)
            await out.settled(world)
    assert peers.got(ONE) == both


async def test_where_the_old_tables_are_gone_nothing_below_the_switch_goes_out(world: World) -> None:
    room = shared(world)
    async with sending(world) as out:
        await out.settled(world)
    world.say(room, "alice", "below")
    with switch(world):
        world.database.write_now(lambda statements: statements.execute("ALTER SCHEMA g1 RENAME TO aside"))
        try:
            async with sending(world, out.peers, "second") as out:
                await out.settled(world)
        finally:
            world.database.write_now(lambda statements: statements.execute("ALTER SCHEMA aside RENAME TO g1"))
    assert not out.peers.attempts


async def test_a_switch_while_it_sends_is_noticed(world: World) -> None:
    """What was read before the switch and waits for a destination is judged by what serves when it goes."""
    room = shared(world)
    peers = Peers(down={ONE: unreachable})
    async with sending(world, peers) as out:
        said = [world.say(room, "alice").event_id]
        await out.until(lambda: peers.attempts[ONE])
        said += [world.say(room, "alice", str(n)).event_id for n in range(2)]
        await out.until(lambda: ONE in out.destinations() and len(out.destinations()[ONE].queue) == 3)
        await out.settled(world)
        del peers.down[ONE]
        with switch(world, (said[1], "rejected")):
            await out.until(lambda: out.egress.sender is not None and out.egress.sender.generation == "g2")
            # A new attempt is what was tried before; the rest is composed anew.
            out.later(15_000)
            await out.until(lambda: said[2] in peers.got(ONE))
            await out.settled(world)
    assert said[1] not in peers.got(ONE)
    assert set(peers.got(ONE)) == {said[0], said[2]}

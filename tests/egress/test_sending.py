"""What goes out, to whom, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from annals.egress import follower
from annals.egress.follower import Batch, Follower
from annals.egress.vectors import Vector
from annals.federation.errors import Refused
from tests.support.egress_world import MEMBER, Peers, membership, remote_event, sending, unreachable
from tests.support.patience import PATIENCE_S
from tests.support.rooms import Driver, created, fetched, received, user
from tests.support.sync_world import World
from tests.support.waiting import until_async

pytestmark = pytest.mark.anyio

ONE, TWO = "peer.one", "peer.two"
BOB, CAROL = f"@bob:{ONE}", f"@carol:{TWO}"


def shared(world: World, *users: str, version: str = "12") -> Driver:
    """A room of alice's with users of other servers in it."""
    room = world.room(version)
    for user_id in users:
        world.feed(room, membership(room, user_id))
    return room


async def test_every_server_in_the_room_gets_what_we_say_in_order(world: World) -> None:
    room = shared(world, BOB, CAROL)
    alone = world.room()
    async with sending(world) as out:
        said = [world.say(room, "alice", str(n)).event_id for n in range(5)]
        world.say(alone, "alice")
        await out.until(lambda: len(out.peers.got(ONE)) == 5 == len(out.peers.got(TWO)))
        await out.settled(world)
    assert out.peers.got(ONE) == out.peers.got(TWO) == said
    assert set(out.peers.attempts) == {ONE, TWO}


async def test_what_a_notice_tells_of_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shared(world, BOB)
    begun: list[Vector] = []
    ended: asyncio.Queue[Batch] = asyncio.Queue()
    read = Follower.after

    async def counted(reader: Follower, low: Vector) -> Batch:
        begun.append(low)
        batch = await read(reader, low)
        ended.put_nowait(batch)
        return batch

    monkeypatch.setattr(Follower, "after", counted)
    async with sending(world) as out, asyncio.timeout(PATIENCE_S):
        await ended.get()
        said = world.say(room, "alice")
        out.egress.wake()
        batch = await ended.get()
        # Who reads again at once has begun by now.
        assert len(begun) == 2
    assert [event.event_id for event, _ in batch.events] == [said.event_id]


async def test_what_does_not_fit_in_one_read_is_read_on_without_another_notice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BATCH", 2)
    room = shared(world, BOB)
    async with sending(world) as out:
        await out.settled(world)
    said = [world.say(room, "alice", str(n)).event_id for n in range(20)]
    async with sending(world) as out:
        await until_async(lambda: len(out.peers.got(ONE)) >= len(said))
    assert out.peers.got(ONE) == said


async def test_what_others_said_is_not_ours_to_send(world: World) -> None:
    room = shared(world, BOB, CAROL)
    async with sending(world) as out:
        world.feed(room, received(remote_event(room, BOB, "m.room.message", {"body": "mine"})))
        world.feed(room, membership(room, f"@dora:{ONE}"))
        ours = world.say(room, "alice")
        await out.until(lambda: out.peers.got(TWO))
        await out.settled(world)
    assert out.peers.got(TWO) == [ours.event_id]


async def test_what_was_said_before_there_was_a_cursor_is_not_sent(world: World) -> None:
    room = shared(world, BOB)
    world.say(room, "alice", "long ago")
    async with sending(world) as out:
        now = world.say(room, "alice", "now")
        await out.until(lambda: out.peers.got(ONE))
    assert out.peers.got(ONE) == [now.event_id]


async def test_a_server_gets_what_is_said_from_its_first_member_to_its_last(world: World) -> None:
    room = shared(world, BOB)
    async with sending(world) as out:
        before = world.say(room, "alice", "before")
        world.feed(room, membership(room, CAROL))
        during = world.say(room, "alice", "during")
        world.feed(room, membership(room, CAROL, "leave"))
        after = world.say(room, "alice", "after")
        await out.until(lambda: len(out.peers.got(ONE)) == 3)
        await out.settled(world)
    assert out.peers.got(ONE) == [before.event_id, during.event_id, after.event_id]
    assert out.peers.got(TWO) == [during.event_id]


async def test_who_is_kicked_or_whose_invite_is_withdrawn_is_on_a_server_that_hears_of_it(world: World) -> None:
    room = shared(world, BOB, CAROL)
    invited = "@eve:peer.three"
    world.send(room, "alice", MEMBER, {"membership": "invite"}, invited)
    async with sending(world) as out:
        kick = world.send(room, "alice", MEMBER, {"membership": "leave"}, CAROL)
        withdrawn = world.send(room, "alice", MEMBER, {"membership": "leave"}, invited)
        stranger = world.send(room, "alice", MEMBER, {"membership": "ban"}, "@who:peer.four")
        await out.until(lambda: stranger.event_id in out.peers.got(ONE))
        await out.settled(world)
    assert out.peers.got(TWO) == [kick.event_id]
    assert out.peers.got("peer.three") == [withdrawn.event_id]
    assert "peer.four" not in out.peers.attempts


async def test_a_member_event_made_through_us_is_passed_on_to_the_others(world: World) -> None:
    room = shared(world, BOB)
    async with sending(world) as out:
        join = membership(room, CAROL, via="send_join")
        world.feed(room, join)
        await out.until(lambda: out.peers.got(ONE))
        leave = membership(room, CAROL, "leave", via="send_leave")
        world.feed(room, leave)
        await out.until(lambda: len(out.peers.got(ONE)) == 2)
        await out.settled(world)
    assert out.peers.got(ONE) == [join.event_id, leave.event_id]  # type: ignore[attr-defined]
    assert TWO not in out.peers.attempts


async def test_our_own_join_at_another_server_is_not_sent_by_us(world: World) -> None:
    room = shared(world, BOB)
    async with sending(world) as out:
        dora = user("dora")
        joins = remote_event(room, dora, MEMBER, {"membership": "join"}, dora)
        world.feed(room, received(joins))
        ours = world.say(room, "alice")
        await out.until(lambda: out.peers.got(ONE))
        await out.settled(world)
    assert out.peers.got(ONE) == [ours.event_id]


async def test_nothing_rejected_or_fetched_or_repeated_goes_out(world: World) -> None:
    room = shared(world, BOB)
    async with sending(world) as out:
        # dora is not in the room: rejected.
        world.feed(room, created(remote_event(room, user("alice"), "m.room.message", {"body": "ok"}), "key"))
        nobody = remote_event(room, user("dora"), "m.room.message", {"body": "no"})
        world.feed(room, created(nobody))
        world.feed(room, created(remote_event(room, user("alice"), "m.room.message", {"body": "again"}), "key"))
        world.feed(room, fetched(remote_event(room, user("alice"), "m.room.message", {"body": "old"}), "state"))
        last = world.say(room, "alice")
        await out.until(lambda: last.event_id in out.peers.got(ONE))
    assert [pdu["content"]["body"] for pdu in out.peers.pdus(ONE)] == ["ok", "hello"]


async def test_servers_that_the_acl_denies_hear_what_is_said_while_they_are_in_the_room(world: World) -> None:
    """ "Servers should still send events to denied servers if they are still residents of the room.": how else would
    they hear that they are let in again?"""
    room = shared(world, BOB, CAROL)
    async with sending(world) as out:
        acl = world.send(room, "alice", "m.room.server_acl", {"allow": ["*"], "deny": [TWO]}, "")
        said = world.say(room, "alice")
        opened = world.send(room, "alice", "m.room.server_acl", {"allow": ["*"]}, "")
        await out.until(lambda: opened.event_id in out.peers.got(ONE) and opened.event_id in out.peers.got(TWO))
    assert out.peers.got(ONE) == out.peers.got(TWO) == [acl.event_id, said.event_id, opened.event_id]


async def test_fifty_in_a_transaction_and_one_transaction_at_a_time(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers(gates={ONE: asyncio.Event()})
    async with sending(world, peers) as out:
        first = world.say(room, "alice", "first")
        await out.until(lambda: peers.attempts[ONE])
        with world.at_once():
            said = [world.say(room, "alice", str(n)).event_id for n in range(120)]
        await out.until(lambda: len(out.destinations()[ONE].queue) == 121)
        peers.gates[ONE].set()
        await out.until(lambda: len(peers.got(ONE)) == 121)
    assert peers.got(ONE) == [first.event_id, *said]
    assert [len(put.content["pdus"]) for put in peers.puts[ONE]] == [1, 50, 50, 20]
    assert peers.most_under_way[ONE] == 1


async def test_the_pdu_is_the_event_and_a_redacted_one_goes_out_redacted(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers(gates={ONE: asyncio.Event()})
    async with sending(world, peers) as out:
        blocks = world.say(room, "alice", "first")
        await out.until(lambda: peers.attempts[ONE])
        secret = world.say(room, "alice", "secret")
        world.send(room, "alice", "m.room.redaction", {"redacts": secret.event_id})
        await out.until(lambda: len(out.destinations()[ONE].queue) == 3)
        peers.gates[ONE].set()
        await out.until(lambda: len(peers.got(ONE)) == 3)
    assert peers.pdus(ONE)[0] == blocks.pdu
    assert peers.got(ONE)[1] == secret.event_id
    assert peers.pdus(ONE)[1]["content"] == {}


async def test_a_transaction_that_failed_comes_again_as_it_was(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers(down={ONE: lambda server: Refused(server, 500, "", "")})
    async with sending(world, peers) as out:
        said = [world.say(room, "alice", "a").event_id]
        await out.until(lambda: _waits(out, ONE))
        said.append(world.say(room, "alice", "b").event_id)
        out.later(5_000)
        await out.settled(world)
        assert len(peers.attempts[ONE]) == 1, "it is left alone for some ten seconds"
        del peers.down[ONE]
        out.later(10_000)
        await out.until(lambda: len(peers.got(ONE)) == 2)
    assert peers.got(ONE) == said
    first, again = peers.attempts[ONE][:2]
    assert (first.txn_id, first.content) == (again.txn_id, again.content)
    assert peers.attempts[ONE][2].txn_id != first.txn_id


async def test_what_will_never_be_taken_does_not_stand_before_what_comes(world: World) -> None:
    room = shared(world, BOB)
    peers = Peers(down={ONE: lambda server: Refused(server, 400, "M_BAD_JSON", "no")})
    async with sending(world, peers) as out:
        world.say(room, "alice", "a")
        await out.until(lambda: peers.attempts[ONE])
        await out.settled(world)
        del peers.down[ONE]
        b = world.say(room, "alice", "b")
        await out.until(lambda: peers.got(ONE))
    assert peers.got(ONE) == [b.event_id]


async def test_a_dead_server_keeps_nobody_waiting(world: World) -> None:
    room = shared(world, BOB, CAROL)
    peers = Peers(gates={ONE: asyncio.Event()}, down={ONE: unreachable})
    async with sending(world, peers) as out:
        said = [world.say(room, "alice", str(n)).event_id for n in range(3)]
        await out.until(lambda: len(peers.got(TWO)) == 3 and bool(peers.attempts[ONE]))
        assert len(peers.attempts[ONE]) == 1
        peers.gates[ONE].set()
    assert peers.got(TWO) == said


def _waits(out: Any, server: str) -> bool:
    destination = out.destinations().get(server)
    return destination is not None and destination.backoff is not None and not destination.busy

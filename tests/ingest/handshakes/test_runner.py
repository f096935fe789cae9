"""The runner: leases, several at once, what is begun again, time that runs out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from annals.projectors.positions.errors import TryAgain
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import HandshakeFailed, PduFetched, StateSetChunk, StateSetClosed
from tests.support.handshake_desk import Us, play
from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import Authority
from tests.support.scripted_room import RoomPeer


def test_a_handshake_is_carried_out_under_a_lease(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10")
        taken, free = us.start("join", room.room_id, peer.name), us.start("join", room.room_id, peer.name)
        us.leases.taken.add(f"handshake/{taken}")
        assert await us.ended(free) == "completed"
        assert await us.log.outcome(us.log.started[taken]) is None
        assert {closed.handshake_id for closed in us.log.all(StateSetClosed)} == {free}

    play(authority, tmp_path, scenario)


def test_a_join_that_came_to_a_good_end_is_told_of(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, other: RoomPeer) -> None:
        other.refuses["make_join"] = (403, {"errcode": "M_FORBIDDEN", "error": "no"})
        await us.failure(us.start("join", other.make_room("10").room_id, other.name))
        knocked = us.start("knock", peer.make_room("10", join_rule={"join_rule": "knock"}).room_id, peer.name)
        joined = us.start("join", peer.make_room("10").room_id, peer.name, displayname="Ann")
        running = asyncio.create_task(us.runner().run())
        async with asyncio.timeout(PATIENCE_S):
            while not us.joined or await us.log.outcome(us.log.started[knocked]) is None:
                assert not running.done(), running.exception()
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [(told.handshake_id, told.content) for told in us.joined] == [(joined, {"displayname": "Ann"})]

    play(authority, tmp_path, scenario)


def test_one_that_waits_for_its_server_holds_up_no_other(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, other: RoomPeer) -> None:
        peer.gate.clear()
        slow = us.start("join", peer.make_room("10").room_id, peer.name)
        quick = us.start("join", other.make_room("10").room_id, other.name)
        assert await us.ended(quick) == "completed"
        assert await us.log.outcome(us.log.started[slow]) is None
        peer.gate.set()
        assert await us.ended(slow) == "completed"

    play(authority, tmp_path, scenario)


def test_what_cannot_be_written_now_is_begun_again(authority: Authority, tmp_path: Path) -> None:
    """As after a kill: what is on the log is known, and the set that was not closed is another one."""

    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        failures = iter([2, 1])

        async def fail(facts: Sequence[Fact]) -> None:
            if isinstance(facts[-1], StateSetClosed) and next(failures, None):
                raise TryAgain("the log is full")
            us.log.known.update(fact.event_id for fact in facts if isinstance(fact, PduFetched))

        us.log.before_submit = fail
        room = peer.make_room("10", members=2)
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        fetched = [fact.event_id for fact in us.log.all(PduFetched)]
        assert len(fetched) == len(set(fetched))
        sets = {fact.set_id for fact in us.log.all(StateSetChunk)}
        [closed] = us.log.all(StateSetClosed)
        assert (len(sets), closed.set_id in sets) == (3, True)

    play(authority, tmp_path, scenario)


def test_an_error_of_ours_ends_it_after_some_tries(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        tries = []

        async def fail(facts: Sequence[Fact]) -> None:
            if isinstance(facts[0], PduFetched):
                tries.append(1)
                raise RuntimeError("a bug")

        us.log.before_submit = fail
        failed = await us.failure(us.start("join", peer.make_room("10").room_id, peer.name))
        assert (failed.status, failed.reason, len(tries)) == (500, "an error of this server: RuntimeError", 3)

    play(authority, tmp_path, scenario)


def test_time_runs_out(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        us.log.decides = False
        handshake = us.start("join", peer.make_room("10").room_id, peer.name)
        assert await us.ended(handshake, us.runner(time_max_s=0.5)) == "failed"
        [failed] = us.log.all(HandshakeFailed)
        assert (failed.status, failed.reason) == (504, "time ran out")

    play(authority, tmp_path, scenario)


async def asked(peer: RoomPeer) -> None:
    """Until the peer has had a request."""
    while True:
        if peer.requests:
            return
        await asyncio.sleep(0.01)


def test_a_runner_ends_when_it_is_told_to(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        peer.gate.clear()
        handshake = us.start("join", peer.make_room("10").room_id, peer.name)
        for wakes in (0, 1):
            runner = us.runner()
            working = asyncio.create_task(runner.run())
            await asked(peer)
            if wakes:
                runner.wake()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            assert working.cancelled()
            peer.requests.clear()
        peer.gate.set()
        assert await us.ended(handshake) == "completed"

    play(authority, tmp_path, scenario)

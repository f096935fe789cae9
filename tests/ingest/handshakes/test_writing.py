"""A large room goes on the log at the pace of the tables, and is verified meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from annals.ingest.handshakes.writing import AHEAD_MAX, AT_ONCE, chunks, one_ahead
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import KeyLookup, Outcome, Prepared
from annals.projectors.positions.appending import Submitted
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import StateSetChunk
from tests.support.handshake_desk import Us, play
from tests.support.scripted_peer import Authority
from tests.support.scripted_room import RoomPeer


def test_a_large_room_is_logged_at_the_pace_of_the_tables(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10", members=1200)
        ahead: list[int] = []
        settled = 0

        async def submitting(facts: Sequence[Fact]) -> None:
            ahead.append(sum(us.log.batches) + len(facts) - settled)

        async def settling(submitted: Submitted) -> None:
            nonlocal settled
            settled += len(submitted.at)

        us.log.before_submit, us.log.before_settled = submitting, settling
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        assert max(us.log.batches) == AT_ONCE
        assert max(ahead) == AT_ONCE * AHEAD_MAX == 1000
        assert [len(f.event_ids) for f in us.log.all(StateSetChunk) if f.role == "state"] == [1000, 204]

    play(authority, tmp_path, scenario)


class _Counting(PduVerifier):
    """Says how many signatures were looked at."""

    def __init__(self, like: PduVerifier) -> None:
        super().__init__(like._keyring, like._threads)
        self.judged = 0
        self.more = asyncio.Event()

    async def judge(self, prepared: Sequence[Prepared], keys: KeyLookup) -> list[Outcome]:
        found = await super().judge(prepared, keys)
        self.judged += len(found)
        self.more.set()
        return found


def test_what_comes_next_is_verified_while_the_tables_are_waited_for(authority: Authority, tmp_path: Path) -> None:
    async def scenario(us: Us, peer: RoomPeer, _: RoomPeer) -> None:
        room = peer.make_room("10", members=1700)
        counting = _Counting(us.desk.pdus)
        us.desk = replace(us.desk, pdus=counting)
        waited = False

        async def settling(_: Submitted) -> None:
            """The tables are slow: until the part after the one that is being logged is verified."""
            nonlocal waited
            while not waited and counting.judged <= 1500:
                counting.more.clear()
                await counting.more.wait()
            waited = True

        us.log.before_settled = settling
        assert await us.ended(us.start("join", room.room_id, peer.name)) == "completed"
        assert waited

    play(authority, tmp_path, scenario)


def test_one_thing_is_under_way_while_the_one_before_it_is_used() -> None:
    said: list[str] = []

    async def make(name: str) -> str:
        said.append(f"{name} begun")
        await asyncio.sleep(0)
        said.append(f"{name} made")
        return name

    async def scenario() -> None:
        async with aclosing(one_ahead([partial(make, name) for name in "abc"])) as made:
            async for name in made:
                for _ in range(3):
                    await asyncio.sleep(0)
                said.append(f"{name} used")

    asyncio.run(scenario())
    assert said == [
        *("a begun", "a made", "b begun", "b made", "a used"),
        *("c begun", "c made", "b used", "c used"),
    ]


def test_what_is_under_way_is_given_up_with_its_user() -> None:
    given_up: list[str] = []

    async def nothing() -> None:
        pass

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append("endless")

    async def scenario() -> None:
        async with aclosing(one_ahead([nothing, endless])) as made:
            async for _ in made:
                await asyncio.sleep(0)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())
    assert given_up == ["endless"]


def test_chunks_fit_into_a_record() -> None:
    ids = ["$" + "x" * 250] * 1500
    parts = chunks(ids)
    assert [event_id for part in parts for event_id in part] == ids
    assert max(sum(len(event_id) + 3 for event_id in part) for part in parts) <= 48 << 10
    assert chunks([]) == []

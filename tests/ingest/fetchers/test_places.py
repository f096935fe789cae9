"""One origin with many rooms and slow answers leaves places to the others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from annals.ingest.fetchers.follower import WantedFollower
from annals.ingest.fetchers.places import Places
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until_async

T = TypeVar("T")
SLOW, OTHER = "slow.example", "other.example"


class _Runs:
    """Rooms that are filled when a test says so; `origins`: who brought the gaps of each."""

    def __init__(self, origins: dict[str, str]) -> None:
        self.origins, self.begun, self.filled = origins, list[str](), list[str]()
        self.may_end = {room_id: asyncio.Event() for room_id in origins}

    async def read(self, _: Callable[[Any], T]) -> Any:
        return [room_id for room_id in self.origins if room_id not in self.filled]

    async def origin_of(self, room_id: str) -> str | None:
        return self.origins[room_id]

    async def fill(self, room_id: str, last_try: bool = False) -> None:
        self.begun.append(room_id)
        await self.may_end[room_id].wait()
        self.filled.append(room_id)

    def under_way(self) -> Counter[str]:
        return Counter(self.origins[room_id] for room_id in self.begun if room_id not in self.filled)


class _Free:
    async def held(self) -> bool:
        return True

    async def release(self) -> None:
        pass


@asynccontextmanager
async def _following(runs: _Runs) -> Any:
    follower = WantedFollower(runs, runs, lambda _: _Free(), rooms_at_once=6, rooms_per_origin=2)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_slow_rooms_of_one_origin_keep_no_other_origin_waiting() -> None:
    async def story() -> None:
        slow = {f"!slow{number}": SLOW for number in range(30)}
        runs = _Runs({**slow, **{f"!other{number}": f"{number}.{OTHER}" for number in range(3)}})
        async with _following(runs):
            await until_async(lambda: len(runs.begun) == 5)
            assert runs.under_way() == {SLOW: 2, f"0.{OTHER}": 1, f"1.{OTHER}": 1, f"2.{OTHER}": 1}
            for room_id, origin in runs.origins.items():
                if origin != SLOW:
                    runs.may_end[room_id].set()
            await until_async(lambda: len(runs.filled) == 3)
            assert runs.under_way() == {SLOW: 2}
            # They are not forgotten either.
            for room_id in slow:
                runs.may_end[room_id].set()
            await until_async(lambda: len(runs.filled) == 33)

    asyncio.run(story())


async def _take(places: Places, origin: str, taken: list[str], leave: asyncio.Event) -> None:
    async with places.of(origin):
        taken.append(origin)
        await leave.wait()


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_free_place_goes_to_who_has_fewest() -> None:
    async def story() -> None:
        places, taken = Places(3, 3), list[str]()
        leaves = [asyncio.Event() for _ in range(9)]
        order = ["a", "a", "a", "a", "a", "b", "b", "c", "c"]
        tasks = [
            asyncio.create_task(_take(places, origin, taken, leave))
            for origin, leave in zip(order, leaves, strict=True)
        ]
        await _turns()
        assert taken == ["a", "a", "a"]
        for leave in leaves:
            leave.set()
        await asyncio.gather(*tasks)
        assert sorted(taken) == sorted(order)
        assert set(taken[3:5]) == {"b", "c"}

    asyncio.run(story())


@pytest.mark.parametrize("given", [False, True])
def test_a_place_of_who_is_cancelled_is_free_again(given: bool) -> None:
    async def story() -> None:
        places, taken = Places(1, 1), list[str]()
        first, leave = asyncio.Event(), asyncio.Event()
        leave.set()
        holder = asyncio.create_task(_take(places, "a", taken, first))
        waiting = asyncio.create_task(_take(places, "b", taken, leave))
        await _turns()
        if given:
            # Whose turn it is is cancelled before it runs.
            first.set()
            await asyncio.sleep(0)
            waiting.cancel()
        else:
            waiting.cancel()
            await _turns()
            first.set()
        await asyncio.gather(holder, waiting, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_S):
            await _take(places, "c", taken, leave)
        assert taken == ["a", "c"]

    asyncio.run(story())

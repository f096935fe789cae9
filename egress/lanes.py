"""How many transactions are under way at once, so that the dead do not keep the living waiting.

Lanes, each with places of its own: for servers that took a transaction before, for those of which nothing is known yet,
and for those that failed last time. A dead server holds a place until its time-out; never one of the living.

Of which nothing is known, most may be dead, and each first message of a room has to get past them. Who does not answer
soon while others wait steps aside: it goes on, and its place is another's. What stands aside costs a socket and little
else, so that there is room for many; they are broken off only where that is full too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from annals.egress.destination import Destination

#: A living server answers within this, mostly; TLS handshakes of so many at once included.
SOON_S = 0.3
#: Who stands aside has at least so long where others wait for that.
UNKNOWN_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Places:
    """How many of each lane. Their sum is below the client's connections, which others need too."""

    living: int = 128
    unknown: int = 256
    aside: int = 2_048
    failing: int = 32


class Lane:
    """So many places, given in the order in which they were asked for."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._waiting = self._given_way = 0

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits."""
        return self._waiting > 0

    def gives_way(self) -> bool:
        """Whether somebody waits to whom nobody gave way yet: then who asks must leave its place."""
        if self._given_way >= self._waiting:
            return False
        self._given_way += 1
        return True

    async def take(self) -> None:
        """Wait for a place."""
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
            self._given_way = max(0, self._given_way - 1)

    def leave(self) -> None:
        """Whose place it was is done."""
        self._places.release()


class Place:
    """A place for the time of a block: `async with`. It may be exchanged for one of another lane."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    async def move(self, lane: Lane) -> None:
        """Wait for a place there, and leave this one."""
        await lane.take()
        self.lane.leave()
        self.lane = lane

    async def __aenter__(self) -> Self:
        await self.lane.take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.lane.leave()


@dataclass(slots=True)
class Lanes:
    """The lanes of one process. Those that failed are started by the sender, as many as there are places."""

    places: Places = field(default_factory=Places)
    living: Lane = field(init=False)
    unknown: Lane = field(init=False)
    aside: Lane = field(init=False)

    def __post_init__(self) -> None:
        self.living = Lane(self.places.living)
        self.unknown = Lane(self.places.unknown)
        self.aside = Lane(self.places.aside)

    def of(self, destination: Destination) -> Place:
        """A place for a destination that does not fail, or that was heard from."""
        return Place(self.living if destination.reached or destination.heard else self.unknown)

    async def holds_out(self, place: Place, answer: asyncio.Future[Any]) -> bool:
        """Wait for a first answer, in the place or aside. False: others wait, and it has had its time."""
        while not await _within(SOON_S, answer):
            if self.unknown.is_wanted:
                await _unless(answer, place.move(self.aside))
                break
        while not await _within(UNKNOWN_TIMEOUT_S, answer):
            if self.aside.gives_way():
                return False
        return True


async def _within(seconds: float, answer: asyncio.Future[Any]) -> bool:
    return bool((await asyncio.wait((answer,), timeout=seconds))[0])


async def _unless(answer: asyncio.Future[Any], other: Awaitable[None]) -> None:
    """Wait for either; the other is cancelled where the answer comes first."""
    task = asyncio.ensure_future(other)
    try:
        await asyncio.wait((answer, task), return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

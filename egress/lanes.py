"""How many transactions are under way at once, so that the dead do not keep the living waiting.

Three lanes, each with places of its own: for servers that took a transaction before, for those of which nothing is
known yet, and for those that failed last time. A dead server holds a place until its time-out; never one of the living.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from annals.egress.destination import Destination


@dataclass(frozen=True, slots=True)
class Places:
    """How many of each lane. Their sum is below the client's connections, which others need too."""

    living: int = 128
    unknown: int = 256
    failing: int = 32


class Lane:
    """So many places, taken by `async with`, in the order in which they were asked for."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._waiting = self._given_way = 0

    def gives_way(self) -> bool:
        """Whether somebody waits to whom nobody gave way yet: then who asks must leave its place."""
        if self._given_way >= self._waiting:
            return False
        self._given_way += 1
        return True

    async def __aenter__(self) -> None:
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
            self._given_way = max(0, self._given_way - 1)

    async def __aexit__(self, *_: object) -> None:
        self._places.release()


@dataclass(slots=True)
class Lanes:
    """The lanes of one process. Those that failed are started by the sender, as many as there are places."""

    places: Places = field(default_factory=Places)
    living: Lane = field(init=False)
    unknown: Lane = field(init=False)

    def __post_init__(self) -> None:
        self.living = Lane(self.places.living)
        self.unknown = Lane(self.places.unknown)

    def of(self, destination: Destination) -> Lane:
        """The lane of a destination that does not fail, or that was heard from."""
        return self.living if destination.reached or destination.heard else self.unknown

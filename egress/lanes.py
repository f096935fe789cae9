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


@dataclass(slots=True)
class Lanes:
    """The lanes of one process. Those that failed are started by the sender, as many as there are places."""

    places: Places = field(default_factory=Places)
    living: asyncio.Semaphore = field(init=False)
    unknown: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.living = asyncio.Semaphore(self.places.living)
        self.unknown = asyncio.Semaphore(self.places.unknown)

    def of(self, destination: Destination) -> asyncio.Semaphore:
        """The lane of a destination that does not fail, or that was heard from."""
        return self.living if destination.reached or destination.heard else self.unknown

"""From accepted events to destinations: one reader for all of them, as fast as the tables move.

A batch is one snapshot: what goes out, and which servers were in its rooms then. Member events are looked up on the
log, since only there stands by which way they came:

    created by us ──────────────────────────────▶ every server in the room
    made by another server through us (send_join …) ─▶ every server but that one
    anything else (our own join at another server, what others sent) ─▶ nobody: whoever made it sends it
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.egress.audiences import Audiences
from annals.egress.reading import (
    Outgoing,
    Stretch,
    read_latest_of_server,
    read_of_server,
    read_stretch,
    server_of,
)
from annals.egress.vectors import ROOMS, Vector, later, tables_end
from annals.eventlog.api import Log
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.rooms import PduCreated, PduReceived

#: Events of a partition in one batch.
BATCH = 500
#: What is read ahead for one destination that lags.
REFILL = 200
#: How a PduReceived came that its sender's server made through us, and that is ours to pass on.
PASSED_ON = frozenset(("send_join", "send_leave", "send_knock"))

Addressed = tuple[Outgoing, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Batch:
    """A stretch of the stream, with who has to hear of what."""

    generation: str
    low: Vector
    high: Vector
    events: tuple[Addressed, ...]
    #: rooms of these events in which no other server is
    quiet: frozenset[str] = frozenset()
    #: whether the tables had no more
    at_end: bool = False


class Follower:
    """Reads batches. `us` is our server name."""

    def __init__(self, database: Database, log: Log, us: str) -> None:
        self._database, self._log, self._us = database, log, us
        self._audiences = Audiences(us)
        self._generation: str | None = None

    async def after(self, low: Vector) -> Batch:
        """What goes out from `low` on, as far as the tables are; rising calls only."""
        batch = await self._database.read(lambda snapshot: self._read(snapshot, low))
        return await self._with_ways(batch)

    async def of_server(self, server: str, low: Vector, high: Vector, *, only_latest: bool) -> Batch:
        """What a destination that lags has missed, or the latest of it in each room."""

        def read(snapshot: Snapshot) -> Batch:
            if only_latest:
                stretch = read_latest_of_server(snapshot, self._us, server, low, high)
            else:
                stretch = read_of_server(snapshot, self._us, server, low, high, REFILL)
            return _batch(snapshot, stretch, Audiences(self._us).of(snapshot, stretch.events, server))

        return await self._with_ways(await self._database.read(read))

    def _read(self, snapshot: Snapshot, low: Vector) -> Batch:
        if snapshot.generation != self._generation:
            self._audiences.forget()
            self._generation = snapshot.generation
        # Tables that are built again are behind a cursor for a while: then there is nothing to read.
        high = later(low, tables_end(snapshot.positions, ROOMS))
        low = later(low, (0,) * len(high))
        stretch = read_stretch(snapshot, self._us, low, high, BATCH)
        try:
            events = self._audiences.of(snapshot, stretch.events)
            batch = _batch(snapshot, stretch, events, self._audiences.alone({event.room_id for event, _ in events}))
            return replace(batch, at_end=batch.high == high)
        except BaseException:
            # A read that breaks off is done again from its start.
            self._audiences.forget()
            raise

    async def _with_ways(self, batch: Batch) -> Batch:
        """Without what is not ours to send."""
        asked = [event for event, servers in batch.events if servers and event.is_member]
        if not asked:
            return batch
        senders = await asyncio.to_thread(self._look_up, asked)
        events = []
        for event, servers in batch.events:
            if event.is_member and servers:
                may_send, made_by = senders[event.partition, event.source]
                servers = servers - {made_by} if may_send else frozenset()
            events.append((event, servers))
        return replace(batch, events=tuple(events))

    def _look_up(self, events: Sequence[Outgoing]) -> dict[tuple[int, int], tuple[bool, str | None]]:
        """By partition and source: whether it is ours to send, and which server made it."""
        return {(event.partition, event.source): self._way(event) for event in events}

    def _way(self, event: Outgoing) -> tuple[bool, str | None]:
        for record in self._log.read(ROOMS, event.partition, event.source, max_records=1):
            if record.offset != event.source or record.value is None:
                break
            try:
                fact = decode(record.value)
            except Undecodable:
                break
            if isinstance(fact, PduCreated):
                return True, None
            if isinstance(fact, PduReceived):
                return fact.via in PASSED_ON, fact.origin
            break
        return False, server_of(event.sender)


def _batch(
    snapshot: Snapshot, stretch: Stretch, events: Sequence[Addressed], quiet: frozenset[str] = frozenset()
) -> Batch:
    return Batch(snapshot.generation, stretch.low, stretch.high, tuple(events), quiet)

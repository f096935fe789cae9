"""A room that was answered, on the log: its events, the set of their ids, and that the set is whole."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from annals.ingest.handshakes.desk import Desk, Handshake
from annals.ingest.handshakes.metrics import EVENTS
from annals.ingest.pdu_facts import pdu_fetched
from annals.ingest.verification import Verified
from annals.projectors.positions.appending import Submitted
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.rooms import PduFact, StateSetChunk, StateSetClosed

T = TypeVar("T")

#: So many events are logged at once, and so many times that may be ahead of the tables. These take up to 1,000 at a
#: time: whatever they took, the next ones are on the log when they have done it.
AT_ONCE, BYTES_AT_ONCE, AHEAD_MAX = 250, 2 << 20, 4
CHUNKS_AT_ONCE = 50
CHUNK_IDS_MAX, CHUNK_BYTES_MAX = 1000, 48 << 10
PURPOSE = "join"


class Writing:
    """The room on the log, of which no more than some batches are ahead of the tables."""

    def __init__(self, desk: Desk, handshake: Handshake, server: str, state: frozenset[str]) -> None:
        self._desk, self._handshake, self._server, self._state = desk, handshake, server, state
        self._ahead: deque[Submitted] = deque()
        self.count = 0

    async def batches_of(self, events: Sequence[Verified]) -> list[list[Fact]]:
        """The facts of the next events, as they shall be logged. Those that are on the log already are only named, in
        the set."""
        if not events:
            return []
        self.count += len(events)
        ids = [item.event.event_id for item in events]
        known = await self._desk.known_events(self._handshake.room_id, ids)
        # In a thread, while others use the loop, and while the tables take the batch before it.
        return await self._desk.in_thread(lambda: list(self._batches(events, known)))

    async def add(self, batches: Sequence[Sequence[Fact]]) -> None:
        """Log them, in their order."""
        for batch in batches:
            await self._submit(batch)
            EVENTS.inc(len(batch))

    async def finish(self, state: Sequence[str], auth_chain: Sequence[str], anchor: Verified) -> None:
        """The set, our event, and that the set is whole; returns when the tables have it."""
        desk, handshake, via = self._desk, self._handshake, self._handshake.handshake_id
        set_id = f"{via}.{desk.new_id()}"
        parts: list[Fact] = [
            StateSetChunk(desk.writer.envelope(cause=via), handshake.room_id, set_id, role, index, chunk)
            for role, event_ids in (("auth", auth_chain), ("state", state))
            for index, chunk in enumerate(chunks(event_ids))
        ]
        for first in range(0, len(parts), CHUNKS_AT_ONCE):
            await self._submit(parts[first : first + CHUNKS_AT_ONCE])
        closed = StateSetClosed(
            envelope=desk.writer.envelope(cause=via),
            room_id=handshake.room_id,
            set_id=set_id,
            purpose=PURPOSE,
            event_id=anchor.event.event_id,
            origin=self._server,
            state_count=len(state),
            auth_count=len(auth_chain),
            handshake_id=via,
        )
        await desk.write([pdu_fetched(anchor, desk.writer.envelope(), self._server, via, "anchor"), closed])

    async def _submit(self, facts: Sequence[Fact]) -> None:
        if len(self._ahead) >= AHEAD_MAX:
            await self._desk.settle(self._ahead.popleft())
        self._ahead.append(await self._desk.submit(facts))

    def _batches(self, events: Sequence[Verified], known: frozenset[str]) -> Iterator[list[Fact]]:
        batch: list[Fact] = []
        size = 0
        for item in events:
            if item.event.event_id in known:
                continue
            purpose = "state" if item.event.event_id in self._state else "auth"
            envelope = self._desk.writer.envelope()
            fact = pdu_fetched(item, envelope, self._server, self._handshake.handshake_id, purpose)
            if batch and (len(batch) >= AT_ONCE or size + _size(fact) > BYTES_AT_ONCE):
                yield batch
                batch, size = [], 0
            batch.append(fact)
            size += _size(fact)
        if batch:
            yield batch


async def one_ahead(work: Sequence[Callable[[], Awaitable[T]]]) -> AsyncGenerator[T, None]:
    """What each gives, at least one, in their order: the next one is under way while what came before is used.

    Close it (`aclosing`): what is under way then is given up.
    """
    first, *others = work
    under_way = asyncio.ensure_future(first())
    try:
        for begin in others:
            done = await under_way
            under_way = asyncio.ensure_future(begin())
            yield done
        yield await under_way
    finally:
        under_way.cancel()
        await asyncio.gather(under_way, return_exceptions=True)


def _size(fact: PduFact) -> int:
    return len(fact.skeleton) + (len(fact.body) if isinstance(fact.body, bytes) else 0)


def chunks(event_ids: Sequence[str]) -> list[tuple[str, ...]]:
    """In parts that fit into a record each: ids of versions 1 and 2 may be long."""
    parts: list[list[str]] = []
    size = CHUNK_BYTES_MAX
    for event_id in event_ids:
        length = len(event_id.encode()) + 3
        if not parts or len(parts[-1]) >= CHUNK_IDS_MAX or size + length > CHUNK_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(event_id)
        size += length
    return [tuple(part) for part in parts]

"""Places for runs that go on at once, shared out fairly: who brings gaps of many rooms gets a few places, not all."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """`count` places in all, and `per_origin` for one origin. One that becomes free goes to the origin that has the
    fewest; of those that have as many, to the one that waits longest."""

    def __init__(self, count: int, per_origin: int) -> None:
        self._free, self._per_origin = count, per_origin
        self._inside: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, origin: str) -> AsyncIterator[None]:
        """Around what is done for the origin: waits for its turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(origin, deque()).append(turn)
        self._share_out()
        try:
            await turn
            yield
        finally:
            # A turn may have been given to who was cancelled before it could be taken: it goes back, too.
            if turn.done() and not turn.cancelled():
                self._free += 1
                self._inside[origin] -= 1
                if not self._inside[origin]:
                    del self._inside[origin]
            self._share_out()

    def _share_out(self) -> None:
        while self._free:
            able = [origin for origin in self._waiting if self._inside[origin] < self._per_origin]
            if not able:
                return
            origin = min(able, key=self._inside.__getitem__)
            self._give(origin)

    def _give(self, origin: str) -> None:
        """To the first of the origin's that still wait; the origin goes to the end of the line."""
        waiting = self._waiting.pop(origin)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._free -= 1
                self._inside[origin] += 1
                break
        if waiting:
            self._waiting[origin] = waiting

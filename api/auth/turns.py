"""Turns at what costs much to answer: states, auth chains, history. However much one server asks, others are heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from annals.api.errors import ApiError

#: Questions of one server that are answered at the same time, and that wait for that.
AT_ONCE_MAX, WAITING_MAX = 4, 100
RETRY_AFTER_S = 2


@dataclass(slots=True)
class _OfServer:
    gate: asyncio.Semaphore
    here: int = 0


@dataclass(slots=True)
class Turns:
    """The turns of one process."""

    at_once: int = AT_ONCE_MAX
    waiting_max: int = WAITING_MAX
    _servers: dict[str, _OfServer] = field(default_factory=dict)

    @asynccontextmanager
    async def of(self, server: str) -> AsyncIterator[None]:
        """Around one answer to the server; ApiError (429) where too many wait already."""
        its = self._servers.setdefault(server, _OfServer(asyncio.Semaphore(self.at_once)))
        if its.here >= self.at_once + self.waiting_max:
            extra = {"retry_after_ms": RETRY_AFTER_S * 1000}
            raise ApiError(429, "M_LIMIT_EXCEEDED", "Too many questions at once", extra, RETRY_AFTER_S)
        its.here += 1
        try:
            async with its.gate:
                yield
        finally:
            its.here -= 1
            if not its.here:
                del self._servers[server]

"""A server that was away and talks to us is sent to at once, whichever process it talks to.

remote: a destination begins or ceases to fail ── NOTIFY ──▶ api: reads which ones fail
api: one of these was heard from ────────────── NOTIFY ──▶ remote: tries it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from annals.database.errors import DatabaseError
from annals.database.listen import Listener
from annals.database.pool import Database
from annals.database.text import restore

_logger = structlog.get_logger(__name__)

#: `remote` says that other servers fail than before; `api` says the name of one that it heard from.
FAILING_CHANNEL, HEARD_CHANNEL = "annals_failing", "annals_heard"
#: A server that goes on talking, and cannot be reached all the same, is not tried more often by this.
TOLD_AGAIN_MS = 5_000

_FAILING_SQL = "SELECT server FROM ops.destinations WHERE retry_at_ms IS NOT NULL"


class HeardFrom:
    """For processes that are talked to: call it with each server that has proved who it is."""

    def __init__(self, database: Database, listener: Listener, now_ms: Callable[[], int]) -> None:
        """`listener`: one that hears FAILING_CHANNEL, started before this is."""
        self._database, self._listener, self._now_ms = database, listener, now_ms
        self._failing: frozenset[str] = frozenset()
        self._told_ms: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Listen, then read."""
        self._unsubscribe = self._listener.subscribe(FAILING_CHANNEL, self._begin_reading, self._begin_reading)
        await self._read()

    async def close(self) -> None:
        """Stop listening."""
        self._unsubscribe()
        self._unsubscribe = lambda: None
        for task in list(self._tasks):
            task.cancel()

    def __call__(self, server: str) -> None:
        """A server talks to us."""
        if server not in self._failing:
            return
        now_ms = self._now_ms()
        if now_ms - self._told_ms.get(server, -TOLD_AGAIN_MS) < TOLD_AGAIN_MS:
            return
        self._told_ms[server] = now_ms
        self._do(self._tell(server))

    def _begin_reading(self, _: str = "") -> None:
        self._do(self._read())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self) -> None:
        try:
            rows = await self._database.read(lambda snapshot: snapshot.rows(_FAILING_SQL))
        except DatabaseError as error:
            _logger.warning("failing_servers_not_read", error=repr(error))
            return
        self._failing = frozenset(restore(server) for (server,) in rows)
        self._told_ms = {server: at_ms for server, at_ms in self._told_ms.items() if server in self._failing}

    async def _tell(self, server: str) -> None:
        try:
            await self._database.write(
                lambda statements: statements.execute("SELECT pg_notify(%s, %s)", (HEARD_CHANNEL, server))
            )
        except DatabaseError as error:
            _logger.warning("heard_from_not_told", server=server, error=repr(error))

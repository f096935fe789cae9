"""Waiting until the tables have something: `await reached(vector)`, in a process that reads them.

    commit ── NOTIFY ──▶ Listener: caches are told, then those wake whose vector is reached
    once a second, and when the connection was lost: the table is read again

Nobody wakes before the subscribers have been told, so that a cache never answers who waited with what was before.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import structlog

from annals.database.errors import DatabaseError
from annals.database.listen import Listener
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.eventlog.api import TopicPartition
from annals.projectors.notices import CHANNEL, Notice, understood
from annals.projectors.positions.read import vector_of

_logger = structlog.get_logger(__name__)

REREAD_S = 1.0
Subscriber = Callable[[Notice], None]


class _Waiter:
    __slots__ = ("done", "missing")

    def __init__(self, missing: dict[TopicPartition, int], done: asyncio.Future[None]) -> None:
        self.missing = missing
        self.done = done


class Reached:
    """The positions of the serving generation, as far as this process has heard. Lives on one event loop."""

    def __init__(self, database: Database, listener: Listener) -> None:
        """`listener`: one that hears CHANNEL, started before this is."""
        self._database = database
        self._listener = listener
        self._generation = ""
        self._known: dict[TopicPartition, int] = {}
        self._switches = 0
        #: Nobody listened for a while: whatever is heard or read next, anything may have moved beside it.
        self._has_missed = False
        self._waiters: defaultdict[TopicPartition, list[_Waiter]] = defaultdict(list)
        self._subscribers: list[Subscriber] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, then read the table: in this order nothing is missed. Raises Unavailable."""
        self._unsubscribe = self._listener.subscribe(CHANNEL, self._from_listener, self._reread_soon)
        await self._reread(is_new=True)
        self._task = asyncio.get_running_loop().create_task(self._keep_reading())

    async def close(self) -> None:
        """Stop listening; who waits goes on waiting for its time-out."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._unsubscribe()
        self._unsubscribe = lambda: None

    @property
    def known(self) -> Mapping[TopicPartition, int]:
        """Next offsets of the tables, by topic and partition."""
        return self._known

    @property
    def generation(self) -> str:
        """The generation whose positions these are."""
        return self._generation

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` on the event loop with every notice, before anyone wakes; the result ends that."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    async def reached(self, vector: Mapping[TopicPartition, int], timeout_s: float) -> bool:
        """Wait until the tables have everything below `vector`; False when the time ran out."""
        missing = {which: offset for which, offset in vector.items() if self._known.get(which, 0) < offset}
        if not missing:
            return True
        waiter = _Waiter(missing, asyncio.get_running_loop().create_future())
        for which in missing:
            self._waiters[which].append(waiter)
        try:
            await asyncio.wait_for(waiter.done, timeout_s)
        except TimeoutError:
            return False
        finally:
            for which in waiter.missing:
                self._waiters[which].remove(waiter)
        return True

    def _from_listener(self, payload: str) -> None:
        try:
            notice = understood(payload)
        except ValueError as error:
            _logger.error("notice_not_understood", error=str(error))
            return
        self._take(notice)

    def _reread_soon(self) -> None:
        self._has_missed = True
        task = asyncio.get_running_loop().create_task(self._reread(is_new=True))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(REREAD_S)
            try:
                await self._reread(is_new=False)
            except DatabaseError as error:
                _logger.warning("positions_not_read", error=repr(error))

    async def _reread(self, *, is_new: bool) -> None:
        """Read the table. After a lost connection (`is_new`) positions may even have gone back."""
        switches = self._switches
        generation, vector = await self._database.read(_generation_and_vector)
        if switches != self._switches:
            return  # what was read is of before a switch that we heard of meanwhile
        switched = generation != self._generation
        if is_new or switched:
            self._generation = generation
            self._known = {}
        moved = {which: offset for which, offset in vector.items() if offset > self._known.get(which, 0)}
        if moved:
            self._take(Notice(generation, moved, frozenset(), frozenset(), everything=True, switched=switched))

    def _take(self, notice: Notice) -> None:
        if notice.switched and notice.generation != self._generation:
            self._generation, self._known = notice.generation, {}
            self._switches += 1
        if notice.generation != self._generation:
            return
        if self._has_missed:
            self._has_missed, notice = False, replace(notice, everything=True)
        for which, offset in notice.positions.items():
            self._known[which] = max(offset, self._known.get(which, 0))
        for subscriber in list(self._subscribers):
            try:
                subscriber(notice)
            except Exception:
                _logger.exception("subscriber_failed")
        for which in notice.positions:
            self._wake(which)

    def _wake(self, which: TopicPartition) -> None:
        waiters = self._waiters.get(which)
        if not waiters:
            return
        offset = self._known[which]
        for waiter in [waiter for waiter in waiters if waiter.missing[which] <= offset]:
            waiters.remove(waiter)
            del waiter.missing[which]
            if not waiter.missing and not waiter.done.done():
                waiter.done.set_result(None)


def _generation_and_vector(snapshot: Snapshot) -> tuple[str, dict[TopicPartition, int]]:
    return snapshot.generation, vector_of(snapshot.positions)

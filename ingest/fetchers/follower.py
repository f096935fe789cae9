"""Follows table `wanted`: a run of `Filler` for each room that lacks something, under the room's lease. What else
rooms wait for, `rooms_of` tells (ingest.policy).

    notice, or start ─▶ which rooms lack something ─▶ one task a room: its turn ─▶ lease `gap/<room>` ─▶ fill
                                                                     └─ nobody could be asked: again later, then for
                                                                        the last time

Bounded: so many rooms at once, of which one origin gets some only; one run a room (over all processes), so many seconds
a run. A room whose run failed keeps none of the others waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from annals.database.errors import DatabaseError
from annals.database.snapshot import Snapshot
from annals.eventlog.errors import LogError
from annals.ingest.fetchers.by_id import Reading
from annals.ingest.fetchers.filling import NotYet, Unanswered
from annals.ingest.fetchers.places import Places
from annals.ingest.fetchers.room_gaps import rooms_that_lack
from annals.projectors.positions.errors import NOT_NOW

_logger = structlog.get_logger(__name__)

ROOMS_AT_ONCE = 12
#: Of these, those whose gaps one server brought: it may answer as slowly as it likes.
ROOMS_PER_ORIGIN = 4
RUN_S_MAX = 180.0
#: Waits before a room is tried again where nobody could be asked; after the last one it is for the last time.
WAITS_S = (5.0, 30.0, 120.0)
RENEW_S = 3.0
# Another process has the lease; or a notification was lost.
STANDBY_S, IDLE_S = 5.0, 30.0
NOT_YET_S = 1.0
LOOK_EVERY_S = 0.05

_NOT_NOW: tuple[type[Exception], ...] = (*NOT_NOW, DatabaseError, LogError)


class Filling(Protocol):
    """What is done for a room (filling.Filler)."""

    async def fill(self, room_id: str, last_try: bool = False) -> None:
        """Raises Unanswered where it is to be tried again."""
        ...

    async def origin_of(self, room_id: str) -> str | None:
        """Which server brought the first event that waits in the room."""
        ...


class Lease(Protocol):
    """The right to fill one room (database.leases.OpsLease)."""

    async def held(self) -> bool:
        """Whether it is ours now; takes or renews it."""
        ...

    async def release(self) -> None:
        """Give it back."""
        ...


@dataclass(slots=True)
class _Later:
    failures: int
    due_s: float


class WantedFollower:
    """One task of the role `remote`; `moved` is the notifier's."""

    def __init__(
        self,
        database: Reading,
        filler: Filling,
        lease_of: Callable[[str], Lease],
        waits_s: tuple[float, ...] = WAITS_S,
        rooms_at_once: int = ROOMS_AT_ONCE,
        rooms_per_origin: int = ROOMS_PER_ORIGIN,
        what: str = "gap",
        rooms_of: Callable[[Snapshot], list[str]] = rooms_that_lack,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._what, self._rooms_of, self._look_every_s = what, rooms_of, look_every_s
        self._database, self._filler, self._lease_of, self._waits_s = database, filler, lease_of, waits_s
        self._places = Places(rooms_at_once, rooms_per_origin)
        self._woken = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._later: dict[str, _Later] = {}
        self._last_look_s = 0.0

    def moved(self, rooms: Iterable[str], everything: bool = False) -> None:
        """Something happened in these rooms, so they may lack something."""
        if everything or any(True for _ in rooms):
            self._woken.set()

    async def run(self) -> None:
        """Until cancelled; then the runs under way end too, and others may go on with them."""
        try:
            while True:
                await self._breathe()
                self._woken.clear()
                wait_s = await self._start_what_is_due()
                with suppress(TimeoutError):
                    # Not wait_for: on Python 3.11 it swallows a cancellation that comes together with the event.
                    async with asyncio.timeout(wait_s):
                        await self._woken.wait()
        finally:
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _breathe(self) -> None:
        """In the midst of traffic there is a notice for every commit, and next to never anything lacking. What comes
        after a pause is looked at at once."""
        now_s = time.monotonic()
        if now_s < self._last_look_s + self._look_every_s:
            await asyncio.sleep(self._last_look_s + self._look_every_s - now_s)
        self._last_look_s = time.monotonic()

    async def _start_what_is_due(self) -> float:
        """Start a run for each room that lacks something; the seconds until one that waits is due."""
        try:
            rooms = await self._database.read(self._rooms_of)
        except _NOT_NOW as error:
            _logger.warning(f"{self._what}_rooms_not_read", error=repr(error))
            return STANDBY_S
        now_s = time.monotonic()
        self._later = {room_id: later for room_id, later in self._later.items() if room_id in rooms}
        for room_id in rooms:
            later = self._later.get(room_id)
            if room_id not in self._running and (later is None or later.due_s <= now_s):
                self._running[room_id] = asyncio.create_task(self._run_room(room_id))
        due = [later.due_s - now_s for room_id, later in self._later.items() if room_id not in self._running]
        return max(0.01, min([IDLE_S, *due]))

    async def _run_room(self, room_id: str) -> None:
        try:
            async with self._places.of(await self._origin_of(room_id)):
                await self._under_lease(room_id)
        finally:
            del self._running[room_id]
            self._woken.set()

    async def _origin_of(self, room_id: str) -> str:
        """Whose places the room takes; those of whom nothing can be told share some."""
        try:
            return await self._filler.origin_of(room_id) or ""
        except Exception as error:
            _logger.warning(f"{self._what}_origin_not_read", room_id=room_id, error=repr(error))
            return ""

    async def _under_lease(self, room_id: str) -> None:
        lease = self._lease_of(room_id)
        failures = self._later[room_id].failures if room_id in self._later else 0
        try:
            if not await lease.held():
                self._again(room_id, failures, STANDBY_S)
                return
            try:
                await self._guarded(room_id, lease, failures >= len(self._waits_s))
                self._later.pop(room_id, None)
            finally:
                with suppress(*_NOT_NOW):
                    await lease.release()
        except (Unanswered, TimeoutError) as error:
            _logger.info(f"{self._what}_left_for_later", room_id=room_id, error=repr(error))
            self._again(room_id, failures + 1, self._waits_s[min(failures, len(self._waits_s) - 1)])
        except NotYet:
            self._again(room_id, failures, NOT_YET_S)
        except _NOT_NOW as error:
            _logger.info(f"{self._what}_left_for_later", room_id=room_id, error=repr(error))
            self._again(room_id, failures, self._waits_s[0])
        except Exception:
            _logger.exception(f"{self._what}_run_failed", room_id=room_id)
            self._again(room_id, failures + 1, self._waits_s[-1])

    async def _guarded(self, room_id: str, lease: Lease, last_try: bool) -> None:
        """Fill while the lease is ours; what runs longer is ended."""
        async with asyncio.timeout(RUN_S_MAX):
            filling = asyncio.ensure_future(self._filler.fill(room_id, last_try))
            try:
                while not filling.done():
                    await asyncio.wait([filling], timeout=RENEW_S)
                    if not filling.done() and not await lease.held():
                        raise Unanswered(f"the lease of {room_id} is lost")
                await filling
            finally:
                filling.cancel()
                await asyncio.gather(filling, return_exceptions=True)

    def _again(self, room_id: str, failures: int, wait_s: float) -> None:
        self._later[room_id] = _Later(failures, time.monotonic() + wait_s)

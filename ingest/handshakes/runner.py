"""Whoever carries handshakes out: looks for open ones, takes each under a lease, tries server after server.

open row ─▶ lease ─▶ server 1 ─▶ failed ─▶ server 2 ─▶ … ─▶ none is left ─▶ HandshakeFailed
                         └─▶ all is on the log ─▶ the machine says how it ended
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from annals.database.errors import DatabaseError
from annals.ingest.handshakes.desk import Desk, Handshake
from annals.ingest.handshakes.errors import AttemptFailed, ServerRefused
from annals.ingest.handshakes.joining import join
from annals.ingest.handshakes.knocking import knock
from annals.ingest.handshakes.leaving import leave, leave_alone
from annals.ingest.handshakes.metrics import ATTEMPTS, ENDED, SECONDS, UNDER_WAY
from annals.matrix.events import Event
from annals.matrix.identifiers import is_server_name
from annals.projectors.positions.errors import NOT_NOW
from annals.rooms.handshakes import COMPLETED, JOIN
from annals.schemas.facts.rooms import HandshakeFailed

log = structlog.get_logger(__name__)

AT_ONCE = 8
SERVERS_MAX = 20
# A handshake that is begun again (the process was killed) has this time anew.
TIME_MAX_S = 600.0
# By an error of ours it is begun again so often.
TRIES_MAX = 3
RENEW_S = 3.0
IDLE_S = 10.0
PAUSE_S = 1.0
SETTLED_S = 0.1

_NOT_NOW: tuple[type[Exception], ...] = (*NOT_NOW, DatabaseError)

Attempt = Callable[[Desk, Handshake, str], Awaitable[None]]
ATTEMPTS_OF: Mapping[str, Attempt] = {"join": join, "knock": knock, "leave": leave}


class Lease(Protocol):
    """The right to carry out one handshake."""

    async def held(self) -> bool:
        """Whether it is ours now; takes or renews it."""
        ...

    async def release(self) -> None:
        """Give it back."""
        ...


class Table(Protocol):
    """What is read of the tables."""

    async def open(self) -> list[Handshake]:
        """Handshakes without an end."""
        ...

    async def outcome(self, handshake: Handshake) -> str | None:
        """How one ended."""
        ...

    async def invite_or_knock(self, room_id: str, user_id: str) -> Event | None:
        """The event by which the user is invited, or knocks."""
        ...


@dataclass(slots=True)
class Runner:
    """`run` is one task of the role `remote`; `wake` is the notifier's."""

    desk: Desk
    table: Table
    lease_of: Callable[[str], Lease]
    joined: Callable[[Handshake], Awaitable[None]]
    """Told of each join that came to a good end, its user being in the room: it may have taken minutes."""
    time_max_s: float = TIME_MAX_S
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _tries: Counter[str] = field(default_factory=Counter)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Something of a room moved: there may be a new handshake."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._woken.clear()
                pause_s = IDLE_S
                try:
                    await self._begin_open()
                except _NOT_NOW as error:
                    log.warning("handshakes_not_read", error=repr(error))
                    pause_s = PAUSE_S
                # Not wait_for: where the event and a cancellation meet, it forgets the cancellation (Python 3.11).
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._woken.wait()
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin_open(self) -> None:
        found = await self.table.open()
        open_ids = {handshake.handshake_id for handshake in found}
        for known in [known for known in self._tries if known not in open_ids]:
            del self._tries[known]
        for handshake in found:
            if len(self._tasks) < AT_ONCE and handshake.handshake_id not in self._tasks:
                self._tasks[handshake.handshake_id] = asyncio.create_task(self._carry_out(handshake))

    async def _carry_out(self, handshake: Handshake) -> None:
        """One handshake, from the beginning, if nobody else is at it."""
        UNDER_WAY.inc()
        try:
            lease = self.lease_of(f"handshake/{handshake.handshake_id}")
            # It may have ended between the look at the table and now.
            if not await lease.held() or await self.table.outcome(handshake) is not None:
                await asyncio.sleep(PAUSE_S)
                return
            try:
                await self._under(lease, handshake)
            finally:
                with suppress(Exception):
                    await lease.release()
        except _NOT_NOW as error:
            log.warning("handshake_waits", handshake=handshake.handshake_id, error=repr(error))
            await asyncio.sleep(PAUSE_S)
        finally:
            UNDER_WAY.dec()
            self._tasks.pop(handshake.handshake_id, None)
            self.wake()

    async def _under(self, lease: Lease, handshake: Handshake) -> None:
        """The work, for as long as the lease is ours."""
        work = asyncio.create_task(self._bounded(handshake))
        try:
            while not work.done():
                await asyncio.wait((work,), timeout=RENEW_S)
                if not work.done() and not await lease.held():
                    log.warning("handshake_taken_over", handshake=handshake.handshake_id)
                    return
            await work
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await work

    async def _bounded(self, handshake: Handshake) -> None:
        began_s = time.monotonic()
        log.info(
            "handshake_begun",
            handshake=handshake.handshake_id,
            kind=handshake.kind,
            room_id=handshake.room_id,
            servers=handshake.servers,
        )
        try:
            async with asyncio.timeout(self.time_max_s):
                await self._attempts(handshake)
        except TimeoutError:
            await self._fail(handshake, None, AttemptFailed("time ran out", 504))
        except _NOT_NOW:
            raise
        except Exception as error:
            self._tries[handshake.handshake_id] += 1
            log.exception("handshake_broke", handshake=handshake.handshake_id)
            if self._tries[handshake.handshake_id] < TRIES_MAX:
                await asyncio.sleep(PAUSE_S)
                return
            await self._fail(handshake, None, AttemptFailed(f"an error of this server: {type(error).__name__}", 500))
        outcome = await self.table.outcome(handshake)
        log.info("handshake_ended", handshake=handshake.handshake_id, kind=handshake.kind, outcome=outcome)
        ENDED.labels(handshake.kind, outcome or "none").inc()
        SECONDS.labels(handshake.kind).observe(time.monotonic() - began_s)
        if (handshake.kind, outcome) == (JOIN, COMPLETED):
            await self.joined(handshake)

    async def _attempts(self, handshake: Handshake) -> None:
        """Server after server, until one helps."""
        attempt = ATTEMPTS_OF.get(handshake.kind)
        if attempt is None:
            await self._fail(handshake, None, AttemptFailed(f"no handshake of kind {handshake.kind[:100]}", 500))
            return
        said: tuple[str | None, AttemptFailed] = (None, AttemptFailed("no server to ask is known", 404, "M_NOT_FOUND"))
        for server in self._candidates(handshake):
            try:
                await attempt(self.desk, handshake, server)
            except AttemptFailed as error:
                ATTEMPTS.labels(handshake.kind, "failed").inc()
                log.warning(
                    "handshake_attempt_failed", handshake=handshake.handshake_id, server=server, reason=str(error)
                )
                # What a server of the room said weighs more than that another one is down.
                if isinstance(error, ServerRefused) or not isinstance(said[1], ServerRefused):
                    said = (server, error)
                continue
            ATTEMPTS.labels(handshake.kind, "answered").inc()
            await self._ended(handshake)
            return
        if handshake.kind == "leave" and await self._left_alone(handshake):
            return
        await self._fail(handshake, *said)

    def _candidates(self, handshake: Handshake) -> list[str]:
        names = dict.fromkeys(server for server in handshake.servers if is_server_name(server))
        names.pop(self.desk.server_name, None)
        return list(names)[:SERVERS_MAX]

    async def _left_alone(self, handshake: Handshake) -> bool:
        """Whether the user could be let go without any server of the room: a rejection always works."""
        before = await self.table.invite_or_knock(handshake.room_id, handshake.user_id)
        if before is None:
            return False
        try:
            await leave_alone(self.desk, handshake, before)
        except AttemptFailed as error:
            log.warning("handshake_leave_alone_failed", handshake=handshake.handshake_id, reason=str(error))
            return False
        await self._ended(handshake)
        return True

    async def _ended(self, handshake: Handshake) -> None:
        """Wait for the machine's word: all that it needs is on the log."""
        while True:
            if await self.table.outcome(handshake) is not None:
                return
            await asyncio.sleep(SETTLED_S)

    async def _fail(self, handshake: Handshake, server: str | None, error: AttemptFailed) -> None:
        log.warning("handshake_failed", handshake=handshake.handshake_id, reason=error.reason, status=error.status)
        fact = HandshakeFailed(
            envelope=self.desk.writer.envelope(cause=handshake.handshake_id),
            room_id=handshake.room_id,
            handshake_id=handshake.handshake_id,
            server=server,
            status=error.status,
            errcode=error.errcode,
            reason=error.reason[:1000],
        )
        await self.desk.write([fact])

"""Egress as the process `remote` runs it: whoever holds the lease sends; the others stand by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from annals.database import ops
from annals.database.errors import DatabaseError
from annals.database.leases import DURATION_MS, OpsLease
from annals.database.listen import Listener
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.egress.destination import Destination
from annals.egress.edus import Edus
from annals.egress.follower import Follower
from annals.egress.heard import HEARD_CHANNEL
from annals.egress.lanes import Lanes
from annals.egress.sender import Client, Sender
from annals.egress.store import Changes, Cursor, LeaseLost, Row, load_cursor, load_destinations, row_of, save
from annals.egress.vectors import ROOMS, later, tables_end
from annals.eventlog.api import Log
from annals.eventlog.errors import LogError
from annals.projectors.notices import Notice

_logger = structlog.get_logger(__name__)

LEASE = "egress"
#: Who stands by looks so often whether the one that sends has ended.
STANDBY_S = 2.0
_RENEW_S = 2.0
#: How long a change may wait to be stored with others: what a kill would send a second time.
SAVE_S = 1.0


@dataclass(slots=True)
class Egress:
    """`owner` is a name of this process that no other one is given. `us` is our server name. `listener` is one that
    hears HEARD_CHANNEL."""

    client: Client
    database: Database
    listener: Listener
    log: Log
    us: str
    owner: str
    now_ms: Callable[[], int]
    lanes: Lanes = field(default_factory=Lanes)
    sender: Sender | None = None
    """While this process sends."""

    async def run(self) -> None:
        """For ever, until cancelled."""
        lease = OpsLease(self.database, LEASE, self.owner, self.now_ms)
        try:
            while True:
                try:
                    if await lease.held():
                        await self._tenure(lease)
                except (DatabaseError, LogError, LeaseLost) as error:
                    _logger.warning("egress_interrupted", error=repr(error))
                await asyncio.sleep(STANDBY_S)
        finally:
            with suppress(Exception):
                await lease.release()

    def wake(self) -> None:
        """The tables moved."""
        if self.sender is not None:
            self.sender.wake()

    def moved(self, notice: Notice) -> None:
        """The tables moved, as the notice says."""
        if self.sender is not None:
            self.sender.moved(notice)

    def heard_from(self, server: str) -> None:
        """A server talks to us: it can be talked to again."""
        if self.sender is not None:
            self.sender.heard_from(server)

    async def _tenure(self, lease: OpsLease) -> None:
        """Send until the lease is lost."""
        await _Tenure(self, *await self.database.read(self._loaded)).run(lease)

    def _loaded(self, snapshot: Snapshot) -> tuple[Cursor, dict[str, Destination], bool]:
        """Where to begin: at the stored cursor; without one at the tables' end, never at what was said long ago."""
        end = Cursor(self.log.log_id, tables_end(snapshot.positions, ROOMS))
        stored = load_cursor(snapshot, self.log.log_id)
        if stored is None:
            return end, {}, True
        # A topic that has more partitions than the cursor knows: those begin at nothing.
        cursor = Cursor(stored.log_id, later(stored.rooms, (0,) * len(end.rooms)))
        return cursor, load_destinations(snapshot), False


class _Tenure:
    """From when the lease was taken until it is lost."""

    def __init__(self, egress: Egress, cursor: Cursor, destinations: dict[str, Destination], is_new: bool) -> None:
        self._egress, self._cursor = egress, cursor
        self._changed: dict[str, Destination] = {}
        self._saved: dict[str, Row] = {name: row_of(destination) for name, destination in destinations.items()}
        self._dirty = asyncio.Event()
        if is_new:
            self._dirty.set()
        self.sender = Sender(
            client=egress.client,
            database=egress.database,
            follower=Follower(egress.database, egress.log, egress.us),
            us=egress.us,
            position=cursor.rooms,
            destinations=destinations,
            now_ms=egress.now_ms,
            changed=self._note,
            lanes=egress.lanes,
        )
        self._edus = Edus(egress.log, egress.database, self.sender, egress.us, egress.now_ms)

    async def run(self, lease: OpsLease) -> None:
        """Send, store and renew; raises what ends it."""
        # What is missed while the connection is lost comes again, if the server goes on talking to us.
        unsubscribe = self._egress.listener.subscribe(
            HEARD_CHANNEL, lambda server: self.sender.heard_from(restore(server))
        )
        try:
            await self._edus.start()
            self._egress.sender = self.sender
            await self._together(lease)
        finally:
            self._egress.sender = None
            await self._edus.close()
            unsubscribe()
            with suppress(DatabaseError, LeaseLost):
                await self._save()

    async def _together(self, lease: OpsLease) -> None:
        parts = (self.sender.run(), self._edus.run(), self._store(), self._renew(lease))
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _note(self, destination: Destination | None) -> None:
        if destination is not None:
            self._changed[destination.server] = destination
        self._dirty.set()

    async def _renew(self, lease: OpsLease) -> None:
        while True:
            if not await lease.held():
                raise LeaseLost
            await asyncio.sleep(_RENEW_S)

    async def _store(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._save()
            except DatabaseError as error:
                _logger.warning("egress_not_stored", error=repr(error))
                self._dirty.set()
            await asyncio.sleep(SAVE_S)

    async def _save(self) -> None:
        # All of one moment: a destination without a vector has everything up to the cursor.
        touched, self._changed = self._changed, {}
        cursor = Cursor(self._cursor.log_id, self.sender.position)
        changes = Changes.since(self._saved, cursor, [row_of(destination) for destination in touched.values()])
        held = ops.Lease(LEASE, self._egress.owner, 0)
        now_ms = self._egress.now_ms()
        try:
            await self._egress.database.write(lambda statements: save(statements, held, now_ms, DURATION_MS, changes))
        except BaseException:
            # Who is cancelled here saves once more at its end.
            self._changed = touched | self._changed
            raise
        self._saved |= {row[0]: row for row in changes.rows}

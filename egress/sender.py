"""The sender: what the follower read goes to each destination, in order, one transaction at a time.

    follower ──▶ queues ──▶ a task for each destination that has work ──▶ PUT /send/{txnId}
                    ▲                   │ failed: backoff, and its time comes round
                    └── tables ◀────────┘ long away: the latest event of each room

A transaction that failed is sent again as it was, under its id. After a kill, what was not known to be delivered is
sent again under another id: receivers know events by theirs.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import random
from typing import Any, Protocol

import structlog

from annals.database.errors import DatabaseError
from annals.database.pool import Database
from annals.egress.destination import CATCH_UP_AFTER_MS, EDUS_MAX, PDUS_MAX, Destination, Transaction
from annals.egress.follower import Batch, Follower
from annals.egress.lanes import Lanes, Place
from annals.egress.pdus import Pdus, TablesBehind
from annals.egress.quiet import QUIET_S, QuietRooms
from annals.egress.vectors import Vector
from annals.eventlog.errors import LogError
from annals.federation.backoff import after_failure
from annals.federation.client import path_of
from annals.federation.errors import FederationError, Refused, Unreachable
from annals.projectors.notices import Notice

_logger = structlog.get_logger(__name__)

SEND_TIMEOUT_S = 60.0
#: After an error of our own database or log.
AGAIN_S = 1.0


class Client(Protocol):
    """What puts a transaction (annals.federation.client)."""

    async def put(self, server: str, path: str, content: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """The answer; raises FederationError."""
        ...


@dataclass(slots=True)
class Sender:
    """One tenure: from when the lease was taken until it is lost. `position` is the follower's cursor.

    `changed` is called with a destination of which something changed that has to be stored; with None where only the
    cursor moved.
    """

    client: Client
    database: Database
    follower: Follower
    us: str
    position: Vector
    destinations: dict[str, Destination]
    now_ms: Callable[[], int]
    changed: Callable[[Destination | None], None]
    lanes: Lanes = field(default_factory=Lanes)
    chance: Callable[[], float] = random
    _pdus: Pdus = field(init=False)
    #: whose tables were read last
    generation: str | None = None
    _due: list[tuple[int, int, Destination]] = field(default_factory=list)
    _due_sooner: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _quiet: QuietRooms = field(default_factory=QuietRooms)
    _moves_later: asyncio.TimerHandle | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _failing: int = 0
    _order: count[int] = field(default_factory=count)
    _txn_prefix: str = field(default_factory=lambda: secrets.token_urlsafe(9))

    def __post_init__(self) -> None:
        self._pdus = Pdus(self.database)

    async def run(self) -> None:
        """Follow and send, until cancelled."""
        for destination in self.destinations.values():
            if destination.backoff is not None:
                self._put_off(destination, destination.backoff.retry_at_ms)
            else:
                self._start(destination)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._retry())
        finally:
            if self._moves_later is not None:
                self._moves_later.cancel()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """The tables moved."""
        self._moved.set()

    def moved(self, notice: Notice) -> None:
        """The tables moved, as the notice says: look now if that may be of somebody's interest, else soon."""
        if self._quiet.concerns(notice):
            self._moved.set()
        elif self._moves_later is None:
            self._moves_later = asyncio.get_running_loop().call_later(QUIET_S, self._moved.set)

    def heard_from(self, server: str) -> None:
        """A server talks to us: it can be talked to again."""
        destination = self.destinations.get(server)
        if destination is not None and destination.backoff is not None:
            destination.heard = True
            self._start(destination)

    def send_edu(self, servers: Iterable[str], key: tuple[str, ...], edu: dict[str, Any]) -> frozenset[str]:
        """An EDU for some servers, best effort; a later one of its key takes its place. Those that take it on."""
        taken = set()
        for server in servers:
            destination = self._destination(server)
            if destination.add_edu(key, edu):
                taken.add(server)
                self._start(destination)
        return frozenset(taken)

    async def _follow(self) -> None:
        while True:
            self._moved.clear()
            if self._moves_later is not None:
                self._moves_later.cancel()
                self._moves_later = None
            self._quiet.begin()
            try:
                batch = await self.follower.after(self.position)
            except (DatabaseError, LogError) as error:
                _logger.warning("egress_not_read", error=repr(error))
                await asyncio.sleep(AGAIN_S)
                continue
            if batch.generation != self.generation:
                self._pdus.forget()
                self.generation = batch.generation
            if batch.high != self.position:
                self._quiet.found({event.room_id for event, _ in batch.events}, batch.quiet)
                self._take(batch)
            if batch.at_end:
                # What was committed since the read began is told by a notice that is still to come, or was heard.
                await self._moved.wait()

    def _take(self, batch: Batch) -> None:
        """Hand a batch to its destinations."""
        events: dict[str, list[Any]] = {}
        for event, servers in batch.events:
            for server in servers:
                events.setdefault(server, []).append(event)
        self.position = batch.high
        self.changed(None)
        for server, its in events.items():
            destination = self._destination(server)
            if destination.low is None:
                # Of one that lags already, nothing changes that is stored.
                self.changed(destination)
            destination.add(its, batch.low)
            self._start(destination)

    def _destination(self, server: str) -> Destination:
        destination = self.destinations.get(server)
        if destination is None:
            destination = self.destinations[server] = Destination(server)
        return destination

    def _start(self, destination: Destination) -> None:
        """Begin to send, if there is anything to send and the destination is not left alone."""
        if destination.busy or not destination.has_work:
            return
        backoff = destination.backoff
        if backoff is not None and not destination.heard:
            # Its time has come, but not its turn: `_retry` takes those in order, some at a time.
            self._put_off(destination, backoff.retry_at_ms)
            return
        self._begin(destination)

    def _begin(self, destination: Destination, *, failing: bool = False) -> None:
        destination.busy = True
        self._failing += failing
        task = asyncio.get_running_loop().create_task(self._work(destination, failing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, destination: Destination, failing: bool) -> None:
        """Send until there is nothing to send, or it fails. One that failed has a place already."""
        try:
            goes_on = await self._again(destination) if failing else True
            while goes_on and destination.has_work:
                async with self.lanes.of(destination) as place:
                    goes_on = await self._attempt(destination, place)
        except Exception:
            _logger.exception("egress_failed", server=destination.server)
            self._failed(destination)
        finally:
            destination.busy = False
        # What came while the last answer was on its way.
        self._start(destination)

    async def _again(self, destination: Destination) -> bool:
        try:
            return await self._attempt(destination)
        finally:
            self._failing -= 1
            self._due_sooner.set()

    async def _attempt(self, destination: Destination, place: Place | None = None) -> bool:
        """Send the next transaction; whether to go on. `place`: of one that does not fail."""
        try:
            transaction = await self._next(destination)
        except (DatabaseError, LogError, TablesBehind) as error:
            _logger.warning("egress_not_read", server=destination.server, error=repr(error))
            await asyncio.sleep(AGAIN_S)
            return True
        return transaction is None or await self._put(destination, transaction, place)

    async def _put(self, destination: Destination, transaction: Transaction, place: Place | None) -> bool:
        path = path_of("federation", "v1", "send", transaction.txn_id)
        try:
            await self._ask(destination, path, transaction.content, place)
        except FederationError as error:
            if not _is_refused_for_good(error):
                if destination.backoff is None:
                    _logger.info("destination_fails", server=destination.server, reason=error.reason)
                self._failed(destination)
                return False
            # It will be refused again, and must not stand before all that comes.
            _logger.warning("transaction_refused", server=destination.server, reason=error.reason)
        destination.backoff, destination.reached, destination.heard = None, True, False
        destination.delivered(transaction)
        self.changed(destination)
        return True

    async def _ask(self, destination: Destination, path: str, content: dict[str, Any], place: Place | None) -> None:
        """Put it. A server of which nothing is known has little time where others wait for its place."""
        put = asyncio.ensure_future(self.client.put(destination.server, path, content, timeout_s=SEND_TIMEOUT_S))
        is_known = destination.reached or destination.heard or destination.backoff
        try:
            if not is_known and place is not None and not await self.lanes.holds_out(place, put):
                raise Unreachable(destination.server, "others wait for its place")
            await put
        finally:
            put.cancel()

    def _failed(self, destination: Destination) -> None:
        now_ms = self.now_ms()
        destination.backoff = backoff = after_failure(destination.backoff, now_ms, self.chance())
        destination.heard = False
        self.changed(destination)
        self._put_off(destination, backoff.retry_at_ms)

    def _put_off(self, destination: Destination, due_ms: int) -> None:
        """Look at it again then. An entry of a time that does not hold any more is passed over when it comes up."""
        if destination.put_off_to_ms != due_ms:
            destination.put_off_to_ms = due_ms
            heappush(self._due, (due_ms, next(self._order), destination))
            self._due_sooner.set()

    async def _next(self, destination: Destination) -> Transaction | None:
        """The next transaction; None where what there was need not be sent."""
        backoff = destination.backoff
        if backoff is not None and backoff.failing_for_ms(self.now_ms()) > CATCH_UP_AFTER_MS and destination.low:
            destination.begin_catch_up()
            self.changed(destination)
        if destination.transaction is not None:
            return destination.transaction
        if destination.read_to is not None and len(destination.queue) < PDUS_MAX:
            await self._refill(destination)
        return await self._compose(destination)

    async def _refill(self, destination: Destination) -> None:
        low = destination.read_to
        assert low is not None
        high = self.position
        latest = destination.catching_up
        batch = await self.follower.of_server(destination.server, low, high, only_latest=latest)
        events = [event for event, servers in batch.events if destination.server in servers]
        destination.filled(events, batch.high, self.position)
        self.changed(destination)

    async def _compose(self, destination: Destination) -> Transaction | None:
        events = tuple(destination.queue[n] for n in range(min(PDUS_MAX, len(destination.queue))))
        pdus = await self._pdus.load(events)
        # After the last wait: what is taken here is in the transaction.
        edus = [destination.edus.pop(key) for key in list(destination.edus)[:EDUS_MAX]]
        now_ms = self.now_ms()
        content: dict[str, Any] = {
            "origin": self.us,
            "origin_server_ts": now_ms,
            "pdus": [pdu for event in events if (pdu := pdus.get((event.room_id, event.event_id))) is not None],
        }
        if edus:
            content["edus"] = edus
        transaction = Transaction(f"{self._txn_prefix}{next(self._order)}", events, content)
        if not content["pdus"] and not edus:
            destination.delivered(transaction)
            self.changed(destination)
            return None
        destination.transaction = transaction
        return transaction

    async def _retry(self) -> None:
        """Start each failing destination when its time has come."""
        while True:
            self._due_sooner.clear()
            self.retry_due()
            waits = self._due and self._failing < self.lanes.places.failing
            wait_s = max(0.0, (self._due[0][0] - self.now_ms()) / 1000) if waits else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._due_sooner.wait()

    def retry_due(self) -> None:
        """Start those whose time has come, as many as there are places for."""
        now_ms = self.now_ms()
        while self._due and self._due[0][0] <= now_ms and self._failing < self.lanes.places.failing:
            due_ms, _, destination = heappop(self._due)
            if destination.put_off_to_ms == due_ms:
                destination.put_off_to_ms = None
            backoff = destination.backoff
            if backoff is not None and backoff.is_over(now_ms) and destination.has_work and not destination.busy:
                self._begin(destination, failing=True)


def _is_refused_for_good(error: FederationError) -> bool:
    """Whether the destination understood the transaction and will never take it."""
    return isinstance(error, Refused) and error.status in (400, 413) and bool(error.errcode)

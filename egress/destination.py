"""One server that we send to: what waits for it, and how it fares.

The queue is a cursor (`low`) with the next events read ahead. While `read_to` is None it is whole: the follower adds to
it. Else it holds what lies between the cursor and `read_to`, and the rest is read from the tables when it is due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.egress.reading import Outgoing
from annals.egress.vectors import Vector, advanced
from annals.federation.backoff import Backoff

# "a maximum of 50 PDUs", "a maximum of 100 EDUs": server-server API, Transactions.
PDUS_MAX, EDUS_MAX = 50, 100
#: Beyond so many waiting events, those to come are left in the tables.
QUEUE_MAX = 500
#: Who failed for longer gets the latest event of each room instead of all that it missed.
CATCH_UP_AFTER_MS = 3_600_000


@dataclass(slots=True)
class Transaction:
    """What is sent, the same in every attempt while this process lives."""

    txn_id: str
    events: tuple[Outgoing, ...]
    content: dict[str, Any]


@dataclass(slots=True, eq=False)
class Destination:
    """See above. `reached`: it took a transaction once, so that others of which nothing is known wait behind it."""

    server: str
    queue: deque[Outgoing] = field(default_factory=deque)
    #: below: delivered; None: everything up to the follower's cursor is
    low: Vector | None = None
    read_to: Vector | None = None
    backoff: Backoff | None = None
    catching_up: bool = False
    reached: bool = False
    transaction: Transaction | None = None
    busy: bool = False
    #: it fails, and talks to us
    heard: bool = False
    #: its place in the sender's heap of those that are left alone
    put_off_to_ms: int | None = None
    #: EDUs by what replaces them: the last one of a key counts
    edus: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)

    @property
    def has_work(self) -> bool:
        """Whether anything is to be sent, or read to be sent."""
        return bool(self.queue or self.edus or self.transaction or self.read_to is not None)

    def add(self, events: Sequence[Outgoing], low: Vector) -> None:
        """Events that the follower read, from `low` on."""
        if self.read_to is not None:
            return
        if self.low is None:
            self.low = low
        if len(self.queue) + len(events) > QUEUE_MAX:
            self.read_to = low
        else:
            self.queue.extend(events)

    def add_edu(self, key: tuple[str, ...], edu: dict[str, Any]) -> bool:
        """An EDU, best effort: nobody who fails gets one, unless heard from since; of too many the oldest goes."""
        if self.backoff is not None and not self.heard:
            return False
        self.edus.pop(key, None)
        self.edus[key] = edu
        while len(self.edus) > QUEUE_MAX:
            del self.edus[next(iter(self.edus))]
        return True

    def filled(self, events: Sequence[Outgoing], to: Vector, follower: Vector) -> None:
        """What was read from the tables, up to `to`; with the follower's cursor there, it goes on by itself."""
        self.queue.extend(events)
        self.read_to = None if to == follower else to
        self._settle()

    def delivered(self, transaction: Transaction) -> None:
        """The destination has it (or will never take it)."""
        self.transaction = None
        for event in transaction.events:
            if self.queue and self.queue[0] is event:
                self.queue.popleft()
            if self.low is not None:
                self.low = advanced(self.low, event.partition, event.position)
        self._settle()

    def begin_catch_up(self) -> None:
        """From the cursor on, only the latest event of each room."""
        self.catching_up = True
        self.transaction = None
        self.queue.clear()
        self.edus.clear()
        self.read_to = self.low

    def _settle(self) -> None:
        if not self.queue and self.read_to is None:
            self.low, self.catching_up = None, False

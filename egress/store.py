"""What has to be known after a restart: the follower's cursor, and of each destination how far it is and how it fares.

Both are written in one transaction, in which the lease is renewed: who lost it writes nothing. What was sent since the
last write is sent again after a kill: the same event ids, which receivers know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from annals.database import ops
from annals.database.snapshot import Snapshot
from annals.database.statements import Statements
from annals.database.text import restore
from annals.egress.destination import Destination
from annals.egress.heard import FAILING_CHANNEL
from annals.egress.vectors import ROOMS, Vector
from annals.federation.backoff import Backoff

WORKER = "egress"

_SELECT = """
    SELECT server, vector, catching_up, reached, failing_since_ms, interval_ms, retry_at_ms FROM ops.destinations
"""
_UPSERT = """
    INSERT INTO ops.destinations
    SELECT * FROM unnest(%s::text[], %s::text[], %s::boolean[], %s::boolean[], %s::bigint[], %s::bigint[], %s::bigint[])
    ON CONFLICT (server) DO UPDATE SET vector = excluded.vector, catching_up = excluded.catching_up,
        reached = excluded.reached, failing_since_ms = excluded.failing_since_ms,
        interval_ms = excluded.interval_ms, retry_at_ms = excluded.retry_at_ms
"""

_FAILS = 4  # failing_since_ms in a Row

Row = tuple[str, str | None, bool, bool, int | None, int | None, int | None]


class LeaseLost(Exception):
    """Another process sends by now."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the follower is. A cursor of another log says nothing about this one."""

    log_id: str
    rooms: Vector

    def pack(self) -> str:
        """As it is stored."""
        return orjson.dumps({"log": self.log_id, ROOMS: self.rooms}).decode()


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written: all of one moment. `of_who_fails`: other servers fail than what is stored says."""

    cursor: Cursor
    rows: tuple[Row, ...]
    of_who_fails: bool

    @classmethod
    def since(cls, saved: Mapping[str, Row], cursor: Cursor, rows: Sequence[Row]) -> Changes:
        """What is not stored as it is. A destination of which there is nothing to say needs no row at first."""
        new = tuple(row for row in rows if saved.get(row[0], _nothing(row[0])) != row)
        failing = any((saved.get(row[0], _nothing(row[0]))[_FAILS] is None) != (row[_FAILS] is None) for row in new)
        return cls(cursor, new, failing)


def _nothing(server: str) -> Row:
    return (server, None, False, False, None, None, None)


def load_cursor(snapshot: Snapshot, log_id: str) -> Cursor | None:
    """The stored cursor; None where there is none for this log."""
    row = snapshot.one("SELECT vector FROM ops.cursors WHERE worker = %s", (WORKER,))
    if row is None:
        return None
    value = orjson.loads(row[0])
    if value["log"] != log_id:
        return None
    return Cursor(log_id, tuple(value[ROOMS]))


def load_destinations(snapshot: Snapshot) -> dict[str, Destination]:
    """Every destination of which something is known."""
    found = {}
    for server, vector, catching_up, reached, since_ms, interval_ms, retry_at_ms in snapshot.rows(_SELECT):
        low = None if vector is None else tuple(orjson.loads(vector))
        backoff = None if since_ms is None else Backoff(since_ms, interval_ms, retry_at_ms)
        name = restore(server)
        found[name] = Destination(name, low=low, read_to=low, backoff=backoff, catching_up=catching_up, reached=reached)
    return found


def row_of(destination: Destination) -> Row:
    """What is stored of a destination."""
    backoff, low = destination.backoff, destination.low
    failing = (None, None, None) if backoff is None else (
        backoff.failing_since_ms, backoff.interval_ms, backoff.retry_at_ms
    )  # fmt: skip
    vector = None if low is None else orjson.dumps(low).decode()
    return (destination.server, vector, destination.catching_up, destination.reached, *failing)


def save(statements: Statements, lease: ops.Lease, now_ms: int, duration_ms: int, changes: Changes) -> None:
    """Write it. Raises LeaseLost."""
    if ops.renew_lease(statements, lease, now_ms, duration_ms) is None:
        raise LeaseLost
    ops.save_cursor(statements, WORKER, changes.cursor.pack())
    if changes.of_who_fails:
        statements.execute("SELECT pg_notify(%s, '')", (FAILING_CHANNEL,))
    if changes.rows:
        columns = [list(column) for column in zip(*changes.rows, strict=True)]
        statements.execute(_UPSERT, columns)

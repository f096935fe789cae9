"""One commit: what several callers appended, at the offsets that follow each partition's end."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from annals.eventlog.embedded.store import table_of

# Rows per INSERT. One statement for many rows: each statement is a moment at which Python gives up the GIL. A few
# sizes only, so that all statements of all partitions stay prepared.
_SIZES = (64, 16, 4, 1)
_INSERTS = {rows: ",".join(["(?,?,?,?)"] * rows) for rows in _SIZES}


@dataclass(frozen=True, slots=True)
class Request:
    """One call of append: its rows (partition id, key, value), in call order."""

    rows: Sequence[tuple[int, bytes, bytes | None]]
    size_bytes: int
    future: Future[list[int]] = field(default_factory=Future)


def write(
    connection: sqlite3.Connection, requests: Sequence[Request], clock_ms: Callable[[], int]
) -> tuple[list[list[int]], dict[int, int]]:
    """The offsets of each request's rows, in order, and where their partitions end now, by id. All is on disk when this
    returns; if it raises, nothing counts."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        offsets, ends = _insert(connection, requests, clock_ms())
        connection.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return offsets, ends


def _insert(
    connection: sqlite3.Connection, requests: Sequence[Request], at_ms: int
) -> tuple[list[list[int]], dict[int, int]]:
    counts: dict[int, int] = {}
    for request in requests:
        for partition_id, _, _ in request.rows:
            counts[partition_id] = counts.get(partition_id, 0) + 1
    following = {partition_id: _take(connection, partition_id, count) for partition_id, count in counts.items()}
    values: dict[int, list[object]] = {partition_id: [] for partition_id in counts}
    offsets: list[list[int]] = []
    for request in requests:
        taken = []
        for partition_id, key, value in request.rows:
            offset = following[partition_id]
            following[partition_id] = offset + 1
            values[partition_id] += (offset, at_ms, key, value)
            taken.append(offset)
        offsets.append(taken)
    for partition_id, flat in values.items():
        _insert_rows(connection, partition_id, flat)
    return offsets, following


def _take(connection: sqlite3.Connection, partition_id: int, count: int) -> int:
    """Moves the partition's end on by `count`; gives the end before."""
    ends: list[tuple[int]] = connection.execute(
        "UPDATE partitions SET next_offset = next_offset + ? WHERE id = ? RETURNING next_offset", (count, partition_id)
    ).fetchall()
    return ends[0][0] - count


def _insert_rows(connection: sqlite3.Connection, partition_id: int, flat: list[object]) -> None:
    table, at, total = table_of(partition_id), 0, len(flat) // 4
    for rows in _SIZES:
        while total - at >= rows:
            connection.execute(f"INSERT INTO {table} VALUES {_INSERTS[rows]}", flat[at * 4 : (at + rows) * 4])
            at += rows

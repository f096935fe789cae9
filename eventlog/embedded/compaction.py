"""Removing what a topic need not keep. Works through a partition in small pieces, so that writers hardly wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from annals.eventlog.embedded.catalog import Topic
from annals.eventlog.embedded.lock import WriterLock
from annals.eventlog.embedded.store import table_of

_ROWS = 500


def compact(connection: sqlite3.Connection, lock: WriterLock, topic: Topic, now_ms: int) -> int:
    """Gives the number of records removed. The connection is the caller's own; the lock too."""
    # What is removed from `subject_keys` must not be found on the disk.
    connection.execute("PRAGMA secure_delete = ON")
    removed = 0
    for partition_id in topic.ids:
        if topic.retention_ms is not None:
            removed += _remove_aged(connection, lock, partition_id, now_ms - topic.retention_ms)
        if topic.compacted:
            removed += _remove_superseded(connection, lock, partition_id, now_ms - topic.delete_retention_ms)
    return removed


def _remove_aged(connection: sqlite3.Connection, lock: WriterLock, partition_id: int, before_ms: int) -> int:
    """The records at the beginning that were appended before that time."""
    table = table_of(partition_id)
    kept = connection.execute(
        f"SELECT offset FROM {table} WHERE at_ms >= ? ORDER BY offset LIMIT 1", (before_ms,)
    ).fetchall()
    # Every record that comes from now on is younger, or the clock went back: then the next run removes it.
    end = kept[0][0] if kept else _end(connection, partition_id)
    removed = 0
    for low, high in _pieces(connection, table, end):
        with lock.held():
            removed += connection.execute(f"DELETE FROM {table} WHERE offset >= ? AND offset < ?", (low, high)).rowcount
    return removed


def _remove_superseded(connection: sqlite3.Connection, lock: WriterLock, partition_id: int, before_ms: int) -> int:
    """All but the last record of each key, and that too where it is an old tombstone."""
    table = table_of(partition_id)
    end = _end(connection, partition_id)
    connection.execute("DROP TABLE IF EXISTS temp.last")
    connection.execute("CREATE TEMP TABLE last (key BLOB PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID")
    for low, high in _pieces(connection, table, end):
        connection.execute(
            f"INSERT INTO temp.last SELECT key, offset FROM {table} WHERE offset >= ? AND offset < ? ORDER BY offset"
            " ON CONFLICT (key) DO UPDATE SET offset = excluded.offset",
            (low, high),
        )
    removed = 0
    for low, high in _pieces(connection, table, end):
        with lock.held():
            removed += connection.execute(
                f"DELETE FROM {table} AS r WHERE offset >= ? AND offset < ? AND (value IS NULL AND at_ms < ?"
                " OR offset < (SELECT last.offset FROM temp.last WHERE last.key = r.key))",
                (low, high, before_ms),
            ).rowcount
    connection.execute("DROP TABLE temp.last")
    return removed


def _end(connection: sqlite3.Connection, partition_id: int) -> int:
    found = connection.execute("SELECT next_offset FROM partitions WHERE id = ?", (partition_id,)).fetchall()
    return int(found[0][0])


def _pieces(connection: sqlite3.Connection, table: str, end: int) -> Iterator[tuple[int, int]]:
    """Ranges of offsets that hold a few hundred records each, gaps skipped, up to `end`."""
    low = 0
    while low < end:
        row = connection.execute(
            f"SELECT max(offset) FROM (SELECT offset FROM {table} WHERE offset >= ? ORDER BY offset LIMIT {_ROWS})",
            (low,),
        ).fetchall()
        if row[0][0] is None:
            return
        high = min(row[0][0] + 1, end)
        yield low, high
        low = high

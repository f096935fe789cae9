"""Records out of the file.

A batch is fetched as one row of concatenated columns. Python gives up the GIL at every row it fetches, and beside a
thread that computes it waits up to a switch interval to get it back: 1,000 records took 480 ms row by row, 19 ms so.
"""

from __future__ import annotations

import sqlite3

from annals.eventlog.api import Record
from annals.eventlog.embedded.store import Store, table_of

_ROWS = 250  # per statement: bounds what a batch of the largest records takes in memory


def read_records(
    store: Store, topic: str, partition: int, partition_id: int, offset: int, max_records: int, max_bytes: int
) -> list[Record]:
    """Records from `offset` on: at least one where there is one."""
    records: list[Record] = []
    size = 0
    with store.reading() as connection:
        while len(records) < max_records:
            rows = min(_ROWS, max_records - len(records))
            batch = _fetch(connection, topic, partition, partition_id, offset, rows)
            for record in batch:
                size += len(record.key) + len(record.value or b"")
                if size > max_bytes and records:
                    return records
                records.append(record)
            if len(batch) < rows:
                break
            offset = batch[-1].offset + 1
    return records


def _fetch(
    connection: sqlite3.Connection, topic: str, partition: int, partition_id: int, offset: int, rows: int
) -> list[Record]:
    # Concatenation of blobs keeps every byte: as text of the database's encoding (UTF-8) they are not looked at.
    found = connection.execute(
        "SELECT group_concat(offset), group_concat(length(key)), group_concat(ifnull(length(value), -1)),"
        " CAST(group_concat(key, '') AS BLOB), CAST(group_concat(value, '') AS BLOB)"
        f" FROM (SELECT offset, key, value FROM {table_of(partition_id)} WHERE offset >= ? ORDER BY offset LIMIT ?)",
        (offset, rows),
    ).fetchall()[0]
    offsets, key_sizes, value_sizes, keys, values = found
    if offsets is None:
        return []
    # Nothing but empty blobs, or none at all, concatenates to NULL.
    keys, values = keys or b"", values or b""
    records = []
    make = Record._make
    key_at = value_at = 0
    for at, key_size, value_size in zip(
        map(int, offsets.split(",")), map(int, key_sizes.split(",")), map(int, value_sizes.split(",")), strict=True
    ):
        key = keys[key_at : key_at + key_size]
        key_at += key_size
        if value_size < 0:
            records.append(make((topic, partition, at, key, None)))
        else:
            records.append(make((topic, partition, at, key, values[value_at : value_at + value_size])))
            value_at += value_size
    return records


def read_ends(store: Store) -> dict[int, int]:
    """The next offset to be written, by partition id: all at one moment."""
    with store.reading() as connection:
        found = connection.execute("SELECT group_concat(id), group_concat(next_offset) FROM partitions").fetchall()
    ids, ends = found[0]
    if ids is None:
        return {}
    return dict(zip(map(int, ids.split(",")), map(int, ends.split(",")), strict=True))

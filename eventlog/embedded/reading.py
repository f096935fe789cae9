"""Records out of the file.

A batch is fetched as one row of concatenated columns. Python gives up the GIL at every row it fetches, and beside a
thread that computes it waits up to a switch interval to get it back: 1,000 records took 480 ms row by row, 19 ms so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise, repeat

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
            batch, batch_bytes = _fetch(connection, topic, partition, partition_id, offset, rows)
            if size + batch_bytes > max_bytes:
                return records + _within(batch, max_bytes - size, at_least=0 if records else 1)
            size += batch_bytes
            records += batch
            if len(batch) < rows:
                break
            offset = batch[-1].offset + 1
    return records


def _within(records: list[Record], max_bytes: int, at_least: int) -> list[Record]:
    """The first of the records, as many as weigh no more than that; `at_least` so many."""
    size = 0
    for count, record in enumerate(records):
        size += len(record.key) + len(record.value or b"")
        if size > max_bytes and count >= at_least:
            return records[:count]
    return records


def _fetch(
    connection: sqlite3.Connection, topic: str, partition: int, partition_id: int, offset: int, rows: int
) -> tuple[list[Record], int]:
    """The records, and the bytes of their keys and values."""
    # Concatenation of blobs keeps every byte: as text of the database's encoding (UTF-8) they are not looked at.
    found = connection.execute(
        "SELECT group_concat(offset), group_concat(length(key)), group_concat(ifnull(length(value), -1)),"
        " CAST(group_concat(key, '') AS BLOB), CAST(group_concat(value, '') AS BLOB)"
        f" FROM (SELECT offset, key, value FROM {table_of(partition_id)} WHERE offset >= ? ORDER BY offset LIMIT ?)",
        (offset, rows),
    ).fetchall()[0]
    offsets, key_sizes, value_sizes, keys, values = found
    if offsets is None:
        return [], 0
    # Nothing but empty blobs, or none at all, concatenates to NULL.
    keys, values = keys or b"", values or b""
    columns = (
        *(repeat(topic), repeat(partition), map(int, offsets.split(","))),
        *(_cut(keys, key_sizes), _cut(values, value_sizes)),
    )
    return list(map(_record, zip(*columns, strict=False))), len(keys) + len(values)


#: What `Record._make` does, without a call of Python code for each.
_record: Callable[[tuple[object, ...]], Record] = partial(tuple.__new__, Record)


def _cut(data: bytes, sizes: str) -> Sequence[bytes | None]:
    """The pieces of these sizes, in order; None where the size is -1."""
    numbers = list(map(int, sizes.split(",")))
    if "-" not in sizes:
        return [data[start:end] for start, end in pairwise(accumulate(numbers, initial=0))]
    ends = pairwise(accumulate((max(size, 0) for size in numbers), initial=0))
    return [None if size < 0 else data[start:end] for size, (start, end) in zip(numbers, ends, strict=True)]


def read_ends(store: Store) -> dict[int, int]:
    """The next offset to be written, by partition id: all at one moment."""
    with store.reading() as connection:
        found = connection.execute("SELECT group_concat(id), group_concat(next_offset) FROM partitions").fetchall()
    ids, ends = found[0]
    if ids is None:
        return {}
    return dict(zip(map(int, ids.split(",")), map(int, ends.split(",")), strict=True))

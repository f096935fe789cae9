"""The position rows as owners see them: who writes a partition, under which epoch, from which backend."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.write_connection import WriteConnection
from annals.projectors.errors import GroupPartition
from annals.projectors.work import Position
from annals.rooms.machine import DECIDE_VERSION

_TERMINATE_WAIT_MS = 5_000

# A backend is known by its pid and start: the pid alone may be somebody else's by now.
_ROWS = """
SELECT p.group_name, p.topic, p.partition, p.log_id, p.epoch, p.decide_version, p.owner, a.pid, p.backend_start,
    p.next_offset, p.decisions_offset, p.marked_epoch, p.last_hash
FROM positions p
LEFT JOIN pg_stat_activity a
    ON a.pid = p.pid AND a.backend_start::text = p.backend_start AND a.pid <> pg_backend_pid()"""

_TERMINATE = """
SELECT pg_terminate_backend(a.pid, %s)
FROM pg_stat_activity a
JOIN (SELECT DISTINCT * FROM unnest(%s::int[], %s::text[])) AS w(pid, backend_start)
    ON a.pid = w.pid AND a.backend_start::text = w.backend_start
WHERE a.pid <> pg_backend_pid()"""

_INSERT = """
INSERT INTO positions (group_name, topic, partition, log_id, next_offset, epoch, decisions_offset, marked_epoch,
    decide_version)
SELECT group_name, topic, partition, %s, 0, 0, 0, 0, 0
FROM unnest(%s::text[], %s::text[], %s::smallint[]) AS w(group_name, topic, partition)
ON CONFLICT DO NOTHING"""

# The offset too: an owner that could not be ended may have moved it since it was read.
_CLAIM = """
UPDATE positions p SET epoch = w.epoch, owner = %s, pid = %s, backend_start = %s, decide_version = %s
FROM unnest(%s::text[], %s::text[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS w(group_name, topic, partition, was, next_offset, epoch)
WHERE p.group_name = w.group_name AND p.topic = w.topic AND p.partition = w.partition AND p.epoch = w.was
    AND p.next_offset = w.next_offset"""

_RELEASE = """
UPDATE positions p SET owner = NULL, pid = NULL, backend_start = NULL
FROM unnest(%s::text[], %s::text[], %s::smallint[], %s::bigint[]) AS w(group_name, topic, partition, epoch)
WHERE p.group_name = w.group_name AND p.topic = w.topic AND p.partition = w.partition AND p.epoch = w.epoch"""


@dataclass(frozen=True, slots=True)
class Row:
    """A position row as it stands. `live_pid`: its owner's backend, if that lives and is not our own."""

    log_id: str
    epoch: int
    decide_version: int
    owner: str | None
    live_pid: int | None
    backend_start: str | None
    position: Position


def make(connection: WriteConnection, log_id: str, keys: Sequence[GroupPartition]) -> None:
    """Rows for partitions that have none: nothing is folded, nobody owned them."""
    connection.execute(_INSERT, (log_id, *_columns(keys, 3)))


def read(connection: WriteConnection) -> dict[GroupPartition, Row]:
    """All rows."""
    rows = {}
    for group, topic, partition, log_id, epoch, version, owner, live_pid, started, *moving in connection.rows(_ROWS):
        rows[group, topic, partition] = Row(log_id, epoch, version, owner, live_pid, started, Position(*moving))
    return rows


def terminate(connection: WriteConnection, rows: Collection[Row]) -> None:
    """End the backends of owners, as they were when the rows were read, and wait for that."""
    backends = [(row.live_pid, row.backend_start) for row in rows if row.live_pid is not None]
    if backends:
        connection.rows(_TERMINATE, (_TERMINATE_WAIT_MS, *_columns(backends, 2)))


def claim(
    connection: WriteConnection,
    owner: str,
    rows: Mapping[GroupPartition, Row],
    epochs: Mapping[GroupPartition, int],
) -> bool:
    """Own partitions under new epochs, all or none: none where a row is not as it was read."""
    pid, backend_start = connection.backend()
    claims = [(*key, rows[key].epoch, rows[key].position.next_offset, epoch) for key, epoch in epochs.items()]
    connection.begin()
    # An epoch must not be lost: two owners would have the same.
    connection.execute("SET LOCAL synchronous_commit = on")
    count = connection.execute(_CLAIM, (owner, pid, backend_start, DECIDE_VERSION, *_columns(claims, 6)))
    if count != len(claims):
        connection.rollback()
        return False
    connection.commit()
    return True


def release(connection: WriteConnection, epochs: Mapping[GroupPartition, int]) -> None:
    """Nobody owns these, unless somebody else took them already."""
    connection.execute(_RELEASE, _columns([(*key, epoch) for key, epoch in epochs.items()], 4))


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]

"""Reading positions: from a snapshot's rows, and how far the tables are behind the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from annals.eventlog.api import Log, TopicPartition
from annals.projectors.projected import PROJECTED

# Columns of annals.projectors.positions.tables, by number: whoever only reads does without tables, and SQLAlchemy.
_TOPIC, _PARTITION, _NEXT = 1, 2, 4


def vector_of(rows: Iterable[Sequence[Any]]) -> dict[TopicPartition, int]:
    """Next offsets by topic and partition, of the rows of `SELECT * FROM positions` (Snapshot.positions)."""
    return {(row[_TOPIC], row[_PARTITION]): row[_NEXT] for row in rows}


def covers(known: Mapping[TopicPartition, int], vector: Mapping[TopicPartition, int]) -> bool:
    """Whether tables at `known` have everything below `vector`."""
    return all(known.get(which, 0) >= offset for which, offset in vector.items())


def projected_ends(log: Log) -> dict[TopicPartition, int]:
    """Where the projected topics end now: tables that have reached this answer for everything logged so far."""
    return {(topic, partition): end for topic in PROJECTED for partition, end in enumerate(log.ends(topic))}


def lags(log: Log, known: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Records on the log that the tables do not have yet, by topic and partition."""
    return {which: end - known.get(which, 0) for which, end in projected_ends(log).items()}

"""Stops: for a moment, generations go exactly to one position of the log and no further.

    stop      locks the position rows ─▶ the log's ends ─▶ into the rows ─▶ commit
    loops     take their position rows: the fence lets no position pass its stop ─▶ fold up to it, look again
    withdraw  clears the rows; a stop that nobody withdraws ends by itself, at `stop_until_ms`

The stop stands in the position row and not in a table of `ops`: a loop that waited for the row sees the row as it is
now, but every other table as it was when its statement began, and would pass a stop that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from annals.database.errors import StatementTimeout
from annals.database.generation import checked_generation
from annals.database.statements import Statements
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import TopicPartition
from annals.projectors.errors import GroupPartition

STOP_S = 5.0
_LOCK_WAIT_MS = 2_000

_STOPS = """
SELECT group_name, topic, partition, epoch, next_offset, stop_at FROM positions
WHERE stop_at IS NOT NULL AND stop_until_ms >= extract(epoch FROM clock_timestamp()) * 1000"""


class PartitionMissing(Exception):
    """A generation has no position of a partition: it was never brought up to the log."""


def in_force(connection: Statements) -> dict[GroupPartition, tuple[int, int, int]]:
    """(epoch, position, stop) of the partitions that stop, in the generation of the connection."""
    return {(row[0], row[1], row[2]): (row[3], row[4], row[5]) for row in connection.rows(_STOPS)}


def lock_positions(connection: WriteConnection, generations: Sequence[str]) -> None:
    """Within a transaction: from here to its end no loop of these moves; a batch that runs is waited for.

    Raises StatementTimeout where that takes too long.
    """
    connection.execute(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
    for generation in sorted(generations):
        # Writers of these rows wait; readers do not.
        connection.execute(f"LOCK TABLE {checked_generation(generation)}.positions IN SHARE ROW EXCLUSIVE MODE")


def stop(
    connection: WriteConnection, generations: Sequence[str], ends: Callable[[], Mapping[TopicPartition, int]]
) -> dict[TopicPartition, int]:
    """Stop these generations at the ends of the log, which are asked for while nobody moves. Raises PartitionMissing.

    No loop has passed them: what it has folded was on the log before.
    """
    connection.begin()
    try:
        lock_positions(connection, generations)
        vector = dict(ends())
        for generation in generations:
            if missing := vector.keys() - positions(connection, generation).keys():
                raise PartitionMissing(f"{generation} has no position of {sorted(missing)}")
            connection.execute(
                f"UPDATE {checked_generation(generation)}.positions p SET stop_at = w.next_offset,"
                " stop_until_ms = (extract(epoch FROM clock_timestamp()) + %s) * 1000"
                " FROM unnest(%s::text[], %s::smallint[], %s::bigint[]) AS w(topic, partition, next_offset)"
                " WHERE p.topic = w.topic AND p.partition = w.partition",
                (STOP_S, *columns(vector)),
            )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return vector


def withdraw(connection: WriteConnection, generations: Sequence[str]) -> None:
    """Let these go on; where a long batch holds them, their stop ends by itself."""
    connection.begin()
    try:
        # Rows locked one by one could meet a loop that locks them in another order.
        lock_positions(connection, generations)
        clear(connection, generations)
        connection.commit()
    except StatementTimeout:
        connection.rollback()
    except BaseException:
        connection.rollback()
        raise


def clear(connection: Statements, generations: Sequence[str]) -> None:
    """The same within a transaction that holds the locks."""
    for generation in generations:
        connection.execute(
            f"UPDATE {checked_generation(generation)}.positions SET stop_at = NULL, stop_until_ms = NULL"
        )


def positions(connection: Statements, generation: str) -> dict[TopicPartition, int]:
    """The next offsets of a generation."""
    sql = f"SELECT topic, partition, next_offset FROM {checked_generation(generation)}.positions"
    return {(topic, partition): offset for topic, partition, offset in connection.rows(sql)}


def columns(vector: Mapping[TopicPartition, int]) -> tuple[list[str], list[int], list[int]]:
    """A vector as three columns: topics, partitions, offsets."""
    items = sorted(vector.items())
    return [which[0] for which, _ in items], [which[1] for which, _ in items], [offset for _, offset in items]

"""Bringing two generations to one position of the log: while they serve, and for the shortest time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from annals.audit.errors import GenerationInUse
from annals.audit.generations import is_written
from annals.audit.one_operator import Vector
from annals.audit.replaying import bring_up
from annals.database.errors import DatabaseError, StatementTimeout
from annals.database.pool import Database
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.projectors.positions.read import projected_ends
from annals.projectors.stops import STOP_S, PartitionMissing, positions, stop, withdraw

_LOOK_AGAIN_S = 0.005
_TRIES = 5


@contextmanager
def standing_together(
    connection: WriteConnection, log: Log, database: Database, generations: Sequence[str], server_name: str
) -> Iterator[Vector]:
    """Both stand at the ends of the log, of a moment ago, until the block ends: at most STOP_S.

    Raises GenerationInUse where one of them does not get there in time; then both have gone on.
    """
    for left in reversed(range(_TRIES)):
        try:
            vector = stop(connection, generations, lambda: projected_ends(log))
        except (DatabaseError, PartitionMissing) as error:
            # A long batch holds the positions: it ends.
            if left and isinstance(error, StatementTimeout):
                continue
            raise GenerationInUse(f"they could not be stopped: {error}") from error
        try:
            late = _await(connection, log, database, generations, server_name, vector)
            if late is None:
                yield vector
                return
            if not left:
                raise GenerationInUse(f"{late} did not reach the end of the log within {STOP_S:g} s")
        finally:
            withdraw(connection, generations)
        for generation in generations:
            bring_up(log, database, generation, server_name)


def _await(
    connection: WriteConnection,
    log: Log,
    database: Database,
    generations: Sequence[str],
    server_name: str,
    vector: Vector,
) -> str | None:
    """Wait until all stand at the vector; None, or the one that was late. One that nobody writes is folded here."""
    deadline_s = time.monotonic() + STOP_S * 0.8
    for generation in generations:
        if not _stands(connection, generation, vector) and not is_written(database, generation):
            bring_up(log, database, generation, server_name)
    while late := next((name for name in generations if not _stands(connection, name, vector)), None):
        if time.monotonic() > deadline_s:
            return late
        time.sleep(_LOOK_AGAIN_S)
    return None


def _stands(connection: WriteConnection, generation: str, vector: Vector) -> bool:
    found = positions(connection, generation)
    return all(found.get(which) == offset for which, offset in vector.items())

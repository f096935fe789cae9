"""Snapshot: what a reader sees, all of it as of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg2.extensions

from annals.database.errors import SnapshotClosed
from annals.database.prepared import Prepared
from annals.database.statements import StatementHook, one_of


class Snapshot:
    """One REPEATABLE READ READ ONLY transaction, for the function that was given it and no longer.

    `generation` is the schema that unqualified tables are found in, `positions` the raw rows of its table of
    positions. Strings in parameters are made storable here; strings in answers are as stored (text.restore).
    """

    __slots__ = ("_cursor", "_hook", "_prepared", "generation", "positions")

    def __init__(
        self,
        cursor: psycopg2.extensions.cursor,
        generation: str,
        positions: list[tuple[Any, ...]],
        hook: StatementHook,
        prepared: Prepared,
    ) -> None:
        self._cursor: psycopg2.extensions.cursor | None = cursor
        self._hook = hook
        self._prepared = prepared
        self.generation = generation
        self.positions = positions

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query (`%s` marks a parameter; a list is an array)."""
        cursor = self._cursor
        if cursor is None:
            raise SnapshotClosed("the read that this snapshot belonged to has ended")
        self._prepared.run(cursor, sql, params, self._hook)
        return cursor.fetchall()

    def one(self, sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The only row of a query, or None; StatementFailed if there are more."""
        return one_of(self.rows(sql, params), sql)

    def end(self) -> None:
        """For the pool: refuse further use."""
        self._cursor = None

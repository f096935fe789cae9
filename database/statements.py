"""What code that is given a transaction may do in it, and parameters that PostgreSQL can take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import psycopg2
import psycopg2.extensions

from annals.database.errors import StatementFailed, translated
from annals.database.text import storable

StatementHook = Callable[[str], None]


class Statements(Protocol):
    """Statements in a transaction that somebody else began and will end."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; how many rows it touched."""
        ...

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement answers."""
        ...

    def one(self, sql: str, params: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The only row that a statement answers, or None."""
        ...


def run(cursor: psycopg2.extensions.cursor, sql: str, params: Sequence[Any], hook: StatementHook) -> None:
    """Send one statement, announced to the hook; its failure as one of our exceptions."""
    hook(sql)
    try:
        cursor.execute(sql, adapted(params))
    except psycopg2.Error as error:
        raise translated(error, cursor.connection) from error


def one_of(rows: list[tuple[Any, ...]], sql: str) -> tuple[Any, ...] | None:
    """The only row, or None; StatementFailed if there are more."""
    if len(rows) > 1:
        # 21000 is PostgreSQL's own code for a scalar query with several rows.
        raise StatementFailed(f"{len(rows)} rows where one was expected: {sql}", "21000")
    return rows[0] if rows else None


def adapted(params: Sequence[Any]) -> tuple[Any, ...] | None:
    """Parameters with every string storable (so that a key from the wire finds its row); None where there are none."""
    if not params:
        return None
    return tuple([_adapted(value) for value in params])


def _adapted(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_adapted(item) for item in value]
    if isinstance(value, tuple):
        return tuple([_adapted(item) for item in value])
    return value

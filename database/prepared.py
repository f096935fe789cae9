"""Reads that are asked again and again are planned once.

Planning a query of a /sync takes longer than running it. From its third use on a connection, a statement is prepared
there and executed by name; the server plans it once, for any parameters, and again now and then (plan_age.py).
Statements with another search path are planned anew by the server itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg2
import psycopg2.extensions

from annals.database.errors import translated
from annals.database.plan_age import DISCARD, PlanAge
from annals.database.statements import StatementHook, adapted

#: Filters make statements of their own: beyond so many on one connection, further ones are planned each time.
PREPARED_MAX = 200
_COUNTED_MAX = 2_000
_USES_BEFORE = 2
#: All statements of the connection together, which plan anew together.
_FIRST_PLANS_USES = 64

#: What a plan for any parameters must not guess wrong: our reads find few rows, by index.
PLANNER = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off"


class Prepared:
    """The statements that one connection has prepared."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._uses: dict[str, int] = {}
        self._age = PlanAge(_FIRST_PLANS_USES)

    def run(self, cursor: psycopg2.extensions.cursor, sql: str, params: Sequence[Any], hook: StatementHook) -> None:
        """Send one statement, announced to the hook as it is written; its failure as one of our exceptions."""
        hook(sql)
        try:
            name = self._names.get(sql) or self._prepare(cursor, sql, len(params))
            if name is None:
                cursor.execute(sql, adapted(params))
            else:
                marks = ", ".join(["%s"] * len(params))
                execute = f"EXECUTE {name} ({marks})" if params else f"EXECUTE {name}"
                cursor.execute(f"{DISCARD}; {execute}" if self._age.is_due() else execute, adapted(params))
        except psycopg2.Error as error:
            raise translated(error, cursor.connection) from error

    def _prepare(self, cursor: psycopg2.extensions.cursor, sql: str, count: int) -> str | None:
        """The name under which `sql` is prepared now; None while it is not worth it."""
        uses = self._uses.get(sql, 0)
        if uses < _USES_BEFORE or len(self._names) >= PREPARED_MAX:
            if len(self._uses) < _COUNTED_MAX:
                self._uses[sql] = uses + 1
            return None
        name = f"read_{len(self._names)}"
        cursor.execute(f"PREPARE {name} AS {numbered(sql, count)}")
        self._names[sql] = name
        return name


def numbered(sql: str, count: int) -> str:
    """A statement with psycopg2's marks as PostgreSQL numbers them; without parameters nothing in it is a mark."""
    if count == 0:
        return sql
    pieces = sql.split("%s")
    if len(pieces) != count + 1:
        raise ValueError(f"{len(pieces) - 1} marks for {count} parameters: {sql}")
    numbered_sql = "".join(piece + (f"${n}" if n <= count else "") for n, piece in enumerate(pieces, start=1))
    return numbered_sql.replace("%%", "%")

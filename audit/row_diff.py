"""Comparing two generations row for row, table by table, as their tables promise to rebuild.

`exact` tables must be equal; `retained` ones over what their topic still holds; what is `derived` or `operational` may
differ and is not compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.statements import Statements
from annals.database.text import restore, storable
from annals.projectors.metadata import METADATA

COMPARED = frozenset(("exact", "retained"))
EXAMPLES_MAX = 5
_ROOM = "room_id"


@dataclass(frozen=True, slots=True)
class TableDiff:
    """How one table differs: rows that only one generation has, counted, and some of them."""

    table: str
    rebuild: str
    rows: int
    only_left: int
    only_right: int
    examples: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def equal(self) -> bool:
        """Whether both generations have the same rows."""
        return self.only_left == 0 and self.only_right == 0


def compared_tables() -> list[Table]:
    """The tables that a rebuild promises anything about, by name."""
    return [table for table in METADATA.sorted_tables if table.info.get("rebuild") in COMPARED]


def diff_rows(database: Database, left: str, right: str, tables: Iterable[Table] | None = None) -> list[TableDiff]:
    """Compare two generations (names of schemas, checked by the caller) in one snapshot."""
    return database.read_now(lambda snapshot: diff_tables(snapshot, left, right, tables), generation=left)


def diff_tables(snapshot: Snapshot, left: str, right: str, tables: Iterable[Table] | None = None) -> list[TableDiff]:
    """The same, in a snapshot of the caller's."""
    chosen = tables if tables is not None else compared_tables()
    return [_diff_table(snapshot, table, left, right) for table in chosen]


def rooms_of_rows(reads: Snapshot, left: str, right: str, tables: Iterable[TableDiff]) -> set[str]:
    """The rooms of which these tables, where they are not equal, have other rows."""
    unequal = [METADATA.tables[table.table] for table in tables if not table.equal]
    found: set[str] = set()
    for table in unequal:
        if _ROOM in table.columns:
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            for one, other in ((left, right), (right, left)):
                sql = f"SELECT DISTINCT {_ROOM} FROM ({_difference(table.name, columns, one, other)}) d"
                found.update(restore(row[0]) for row in reads.rows(sql))
    return found


def save_named(connection: Statements, left: str, right: str, rooms: Collection[str]) -> None:
    """Remember the rooms that a comparison named: a switch tells them anew."""
    one, other = sorted((left, right))
    connection.execute(
        "INSERT INTO ops.row_diffs (one, other, rooms) VALUES (%s, %s, %s::text[])"
        " ON CONFLICT (one, other) DO UPDATE SET rooms = excluded.rooms",
        (one, other, sorted(storable(room_id) for room_id in rooms)),
    )


def named_by_rows(connection: Statements, left: str, right: str) -> set[str] | None:
    """The rooms that the last comparison row for row named; None where there was none."""
    one, other = sorted((left, right))
    row = connection.one("SELECT rooms FROM ops.row_diffs WHERE one = %s AND other = %s", (one, other))
    return None if row is None else {restore(room_id) for room_id in row[0]}


def _difference(table: str, columns: str, one: str, other: str) -> str:
    return f'SELECT {columns} FROM "{one}"."{table}" EXCEPT ALL SELECT {columns} FROM "{other}"."{table}"'


def _diff_table(snapshot: Snapshot, table: Table, left: str, right: str) -> TableDiff:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    count_left, some_left = _only(snapshot, table.name, columns, left, right)
    count_right, some_right = _only(snapshot, table.name, columns, right, left)
    ((rows,),) = snapshot.rows(f'SELECT count(*) FROM "{left}"."{table.name}"')
    examples = [(left, row) for row in some_left] + [(right, row) for row in some_right]
    return TableDiff(table.name, table.info["rebuild"], rows, count_left, count_right, tuple(examples))


def _only(snapshot: Snapshot, table: str, columns: str, one: str, other: str) -> tuple[int, Sequence[tuple[Any, ...]]]:
    """How many rows `one` has and `other` lacks, and some of them."""
    found = snapshot.rows(
        f"WITH only_here AS ({_difference(table, columns, one, other)})"
        f" SELECT count(*) OVER (), * FROM only_here ORDER BY {columns} LIMIT {EXAMPLES_MAX}"
    )
    return (found[0][0] if found else 0), [row[1:] for row in found]

"""Comparing two generations row for row, table by table, as their tables promise to rebuild.

`exact` tables must be equal; `retained` ones over what their topic still holds; what is `derived` or `operational` may
differ and is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.projectors.metadata import METADATA

COMPARED = frozenset(("exact", "retained"))
EXAMPLES_MAX = 5


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
    chosen = list(tables if tables is not None else compared_tables())

    def read(snapshot: Snapshot) -> list[TableDiff]:
        return [_diff_table(snapshot, table, left, right) for table in chosen]

    return database.read_now(read, generation=left)


def _diff_table(snapshot: Snapshot, table: Table, left: str, right: str) -> TableDiff:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    count_left, some_left = _only(snapshot, table.name, columns, left, right)
    count_right, some_right = _only(snapshot, table.name, columns, right, left)
    ((rows,),) = snapshot.rows(f'SELECT count(*) FROM "{left}"."{table.name}"')
    examples = [(left, row) for row in some_left] + [(right, row) for row in some_right]
    return TableDiff(table.name, table.info["rebuild"], rows, count_left, count_right, tuple(examples))


def _only(snapshot: Snapshot, table: str, columns: str, one: str, other: str) -> tuple[int, Sequence[tuple[Any, ...]]]:
    """How many rows `one` has and `other` lacks, and some of them."""
    difference = f'SELECT {columns} FROM "{one}"."{table}" EXCEPT ALL SELECT {columns} FROM "{other}"."{table}"'
    found = snapshot.rows(
        f"WITH only_here AS ({difference})"
        f" SELECT count(*) OVER (), * FROM only_here ORDER BY {columns} LIMIT {EXAMPLES_MAX}"
    )
    return (found[0][0] if found else 0), [row[1:] for row in found]

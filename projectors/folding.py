"""Folds of groups other than rooms: pure functions over the rows that a fact touches.

A projection says which rows a fact touches; the loop loads those of a whole batch set-wise; the fold then reads and
changes them in log order. So contended choices (a name, an alias) are made by log order alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import String, Table

from annals.database.rows import Key, Row, Rows
from annals.database.statements import Statements
from annals.database.text import restore
from annals.projectors.moved import Moved
from annals.schemas.facts.envelope import Fact
from annals.schemas.position import pack


class UnknownFact(Exception):
    """A fact that this version has no rule for: a newer one must read it."""


@dataclass(frozen=True, slots=True)
class Touch:
    """A row that a fact touches, by its primary key; or all rows whose keys begin so."""

    table: Table
    prefix: Key


@dataclass(frozen=True, slots=True)
class At:
    """Where a fact stands. Outside of rooms each fact has one effect: its stream position has ordinal 0."""

    topic: str
    partition: int
    offset: int

    def provenance(self) -> dict[str, int]:
        """The columns of annals.projectors.columns.provenance."""
        return {"partition": self.partition, "source": self.offset, "position": pack(self.offset, 0)}


class NotLoaded(Exception):
    """A fold asks for a row that its projection did not name: the projection is wrong."""


class Overlay:
    """The rows of one partition's batch, as they change. Changes of a fact count once it is `keep`-ed."""

    def __init__(self) -> None:
        self.rows = Rows()
        self._loaded: dict[Touch, None] = {}
        self._tables: dict[Table, dict[Key, Row | None]] = {}
        self._pending: dict[tuple[Table, Key], Row | None] = {}

    def learn(self, touches: Collection[Touch], found: Mapping[Table, Iterable[Row]]) -> None:
        """Take what was loaded for `touches`; what is known already stands, being younger."""
        self._loaded.update(dict.fromkeys(touches))
        for table, rows in found.items():
            known = self._tables.setdefault(table, {})
            for row in rows:
                known.setdefault(_key_of(table, row), row)

    def get(self, table: Table, *key: Any) -> Row | None:
        """The row of a key that was named."""
        if (table, key) in self._pending:
            return self._pending[table, key]
        known = self._tables.get(table, {})
        if key in known:
            return known[key]
        if not self._covers(table, key):
            raise NotLoaded(f"{table.name} {key!r}")
        return None

    def under(self, table: Table, *prefix: Any) -> list[Row]:
        """The rows whose keys begin so, by key."""
        if not self._covers(table, prefix):
            raise NotLoaded(f"{table.name} {prefix!r}")
        rows = {k: row for k, row in self._tables.get(table, {}).items() if k[: len(prefix)] == prefix}
        rows |= {k: row for (t, k), row in self._pending.items() if t is table and k[: len(prefix)] == prefix}
        return [row for _, row in sorted(rows.items()) if row is not None]

    def put(self, table: Table, row: Row) -> None:
        """Make the row of this key be this one, whole."""
        self._pending[table, _key_of(table, row)] = row

    def delete(self, table: Table, *key: Any) -> None:
        """Remove the row, if it is there."""
        self._pending[table, key] = None

    def keep(self) -> None:
        """The fact is folded: its changes count."""
        for (table, key), row in self._pending.items():
            names = [column.name for column in table.primary_key.columns]
            if row is None:
                self.rows.delete(table, dict(zip(names, key, strict=True)))
            else:
                self.rows.upsert(table, row)
            self._tables.setdefault(table, {})[key] = row
        self._pending.clear()

    def discard(self) -> None:
        """The fact could not be folded: nothing of it counts."""
        self._pending.clear()

    def _covers(self, table: Table, key: Key) -> bool:
        return any(Touch(table, key[:length]) in self._loaded for length in range(1, len(key) + 1))


class Projection(Protocol):
    """One group's tables, as a function of its topic."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """The rows that `fold` will read for this fact."""
        ...

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """Apply the fact. Raises UnknownFact."""
        ...

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """The rows that `tombstone` will read."""
        ...

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """A record without a value: the key is gone (in a topic that is kept whole, a filler that means nothing)."""
        ...

    def moved(self, fact: Fact) -> Moved:
        """Whose waiters shall look."""
        ...


def load_rows(connection: Statements, touches: Iterable[Touch]) -> dict[Table, list[Row]]:
    """The rows of `touches`: one query for each table and length of prefix."""
    grouped: dict[tuple[Table, int], set[Key]] = {}
    for touch in touches:
        grouped.setdefault((touch.table, len(touch.prefix)), set()).add(touch.prefix)
    found: dict[Table, list[Row]] = {}
    for (table, length), prefixes in grouped.items():
        found.setdefault(table, []).extend(_rows_under(connection, table, length, sorted(prefixes)))
    return found


def _rows_under(connection: Statements, table: Table, length: int, prefixes: list[Key]) -> Iterator[Row]:
    keys = [f'"{column.name}"' for column in list(table.primary_key.columns)[:length]]
    columns = ", ".join(f't."{column.name}"' for column in table.columns)
    types = ["%s::text[]"] * length  # all keys that are looked up here are texts
    sql = (
        f"SELECT {columns} FROM unnest({', '.join(types)}) AS w({', '.join(keys)}) "
        f'JOIN "{table.name}" t USING ({", ".join(keys)})'
    )
    texts = {column.name for column in table.columns if isinstance(column.type, String)}
    names = [column.name for column in table.columns]
    for values in connection.rows(sql, [list(column) for column in zip(*prefixes, strict=True)]):
        row = dict(zip(names, values, strict=True))
        yield {name: restore(v) if v is not None and name in texts else v for name, v in row.items()}


def _key_of(table: Table, row: Row) -> Key:
    return tuple(row[column.name] for column in table.primary_key.columns)

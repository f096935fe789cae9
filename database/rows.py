"""Rows: the changes that folds make, collected, to be written at once.

Several changes of one key collapse in their order, so that a batch of steps leaves the rows that step by step would
have left. What a key's changes so far amount to is one of four; a further change composes with it:

    so far \\ next   insert(r)    upsert(r)    update(c)     delete
    nothing          insert(r)    upsert(r)    update(c)     delete
    insert(s)        BadRow       insert(r)    insert(s+c)   nothing
    upsert(s)        BadRow       upsert(r)    upsert(s+c)   delete
    update(d)        insert(r)    upsert(r)    update(d+c)   delete
    delete           upsert(r)    upsert(r)    delete        delete

This is exact because a row is always whole: `insert` and `upsert` set every column, and one that is left out becomes
NULL (server defaults are not used). `insert` is for keys that are certainly new: the table raises otherwise.
`update` and `delete` of a key that is not there do nothing.

Between keys there is no order: a write does a table's deletes first, then updates, upserts, inserts. Tables with a
unique index besides the primary key must not need another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Table

from annals.database.errors import BadRow

Row = Mapping[str, Any]
Key = tuple[Any, ...]
Values = tuple[Any, ...]
"""A whole row: the values of all columns, in the order of the table. It is made and written in half the time."""


class Kind(IntEnum):
    """What a key's changes amount to, in the order in which a table's changes are written."""

    DELETE = 0
    UPDATE = 1
    UPSERT = 2
    INSERT = 3


# By these names a member is found without asking its class.
_DELETE, _UPDATE, _UPSERT, _INSERT = Kind


@dataclass(frozen=True, slots=True)
class TableCounts:
    """Changed rows of one table and what their values weigh, roughly, in bytes."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Shape:
    key: tuple[str, ...]
    key_of: Callable[[Row], Key]
    key_set: frozenset[str]
    columns: frozenset[str]
    size: int
    names: tuple[str, ...]
    key_in: Callable[[Values], Key]


@cache
def _shape(table: Table) -> _Shape:
    key = tuple(column.name for column in table.primary_key.columns)
    if not key:
        raise BadRow(f"{table.name} has no primary key")
    names = tuple(column.name for column in table.columns)
    places = [names.index(name) for name in key]
    key_in = itemgetter(slice(places[0], places[0] + 1)) if len(places) == 1 else itemgetter(*places)
    return _Shape(key, values_of(key), frozenset(key), frozenset(names), len(names), names, key_in)


def values_of(names: Sequence[str]) -> Callable[[Row], Key]:
    """A function that takes these columns out of a row, all at once; KeyError where one is left out."""
    if len(names) == 1:
        (only,) = names
        return lambda row: (row[only],)
    return itemgetter(*names)


def named(table: Table, row: Row | Values) -> Row:
    """The row by its columns' names."""
    return dict(zip(_shape(table).names, row, strict=True)) if isinstance(row, tuple) else row


class Rows:
    """Changes by table and key. Row dictionaries are taken over: do not change one after giving it."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[Table, dict[Key, tuple[Kind, Row | Values]]] = {}

    def insert(self, table: Table, row: Row) -> None:
        """Add a row whose key is certainly new; BadRow when this batch has made that key already."""
        changes, key = self._at(table, row)
        self._insert(table, changes, key, row)

    def insert_values(self, table: Table, values: Values) -> None:
        """The same, of a row's values."""
        changes, key = self._at_values(table, values)
        if key in changes:
            self._insert(table, changes, key, values)
        else:
            changes[key] = (_INSERT, values)

    def _insert(self, table: Table, changes: dict[Key, tuple[Kind, Row | Values]], key: Key, row: Row | Values) -> None:
        previous = changes.get(key)
        if previous is None or previous[0] is _UPDATE:
            # An update before it can have changed nothing, as the key is new.
            changes[key] = (_INSERT, row)
        elif previous[0] is _DELETE:
            changes[key] = (_UPSERT, row)
        else:
            raise BadRow(f"{table.name}: key {key!r} is inserted, but it is there")

    def upsert(self, table: Table, row: Row) -> None:
        """Make the row of this key be this one, whole, whether or not there was one."""
        changes, key = self._at(table, row)
        self._upsert(changes, key, row)

    def upsert_values(self, table: Table, values: Values) -> None:
        """The same, of a row's values."""
        changes, key = self._at_values(table, values)
        self._upsert(changes, key, values)

    def _upsert(self, changes: dict[Key, tuple[Kind, Row | Values]], key: Key, row: Row | Values) -> None:
        previous = changes.get(key)
        new = previous is not None and previous[0] is _INSERT
        changes[key] = (_INSERT if new else _UPSERT, row)

    def update(self, table: Table, key: Row, changes: Row) -> None:
        """Set some columns of the row with this primary key, if there is one."""
        shape = _shape(table)
        identity = _identity(table, shape, key)
        if not changes.keys() <= shape.columns or not shape.key_set.isdisjoint(changes):
            raise BadRow(f"{table.name}: cannot set {sorted(changes)}")
        if changes:
            self._update(table, identity, changes)

    def delete(self, table: Table, key: Row) -> None:
        """Remove the row with this primary key, if there is one."""
        self._delete(table, _identity(table, _shape(table), key))

    def delete_key(self, table: Table, *key: Any) -> None:
        """The same, of the values of the primary key's columns, in their order."""
        if len(key) != len(_shape(table).key):
            raise BadRow(f"{table.name}: {key!r} is not its primary key")
        self._delete(table, key)

    def merge(self, other: Rows) -> None:
        """Add the changes of `other`, as if they had been made here after the ones that are."""
        for table, changes in other._tables.items():
            mine = self._tables.setdefault(table, {})
            for key, change in changes.items():
                if key in mine:
                    self._compose(table, key, *change)
                else:
                    mine[key] = change

    def _compose(self, table: Table, key: Key, kind: Kind, row: Row | Values) -> None:
        if kind is Kind.DELETE:
            self._delete(table, key)
        elif kind is Kind.UPDATE:
            self._update(table, key, named(table, row))
        elif kind is Kind.UPSERT:
            self._upsert(self._tables[table], key, row)
        else:
            self._insert(table, self._tables[table], key, row)

    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not any(self._tables.values())

    def counts(self) -> dict[str, TableCounts]:
        """Changed rows and their approximate bytes, by table name; tables without changes are left out."""
        return {
            table.name: TableCounts(
                len(changes), sum(_weight(key, named(table, row)) for key, (_, row) in changes.items())
            )
            for table, changes in self._tables.items()
            if changes
        }

    def tables(self) -> Iterator[tuple[Table, Mapping[Key, tuple[Kind, Row | Values]]]]:
        """Each table that changes, with what becomes of each key (an update's row holds the set columns only)."""
        return ((table, changes) for table, changes in self._tables.items() if changes)

    def changes(self) -> Iterator[tuple[Table, Kind, Key, Row]]:
        """Every change, table by table."""
        for table, changes in self._tables.items():
            for key, (kind, row) in changes.items():
                yield table, kind, key, named(table, row)

    def _at(self, table: Table, row: Row) -> tuple[dict[Key, tuple[Kind, Row | Values]], Key]:
        shape = _shape(table)
        # A row with as many columns as the table, of which one is unknown, lacks another: that is seen when it is
        # written.
        if len(row) != shape.size and not row.keys() <= shape.columns:
            raise BadRow(f"{table.name} has no columns {sorted(row.keys() - shape.columns)}")
        try:
            key = shape.key_of(row)
        except KeyError as missing:
            raise BadRow(f"{table.name}: a row without key column {missing}") from None
        changes = self._tables.get(table)
        if changes is None:
            changes = self._tables[table] = {}
        return changes, key

    def _at_values(self, table: Table, values: Values) -> tuple[dict[Key, tuple[Kind, Row | Values]], Key]:
        shape = _shape(table)
        if len(values) != shape.size:
            raise BadRow(f"{table.name} has {shape.size} columns, not {len(values)}")
        changes = self._tables.get(table)
        if changes is None:
            changes = self._tables[table] = {}
        return changes, shape.key_in(values)

    def _update(self, table: Table, key: Key, changes: Row) -> None:
        of_table = self._tables.setdefault(table, {})
        previous = of_table.get(key)
        if previous is None:
            of_table[key] = (_UPDATE, changes)
        elif previous[0] is not _DELETE:
            of_table[key] = (previous[0], {**named(table, previous[1]), **changes})

    def _delete(self, table: Table, key: Key) -> None:
        of_table = self._tables.setdefault(table, {})
        previous = of_table.get(key)
        if previous is not None and previous[0] is _INSERT:
            del of_table[key]
        else:
            of_table[key] = (_DELETE, {})


def _identity(table: Table, shape: _Shape, key: Row) -> Key:
    if len(key) == len(shape.key):
        try:
            return shape.key_of(key)
        except KeyError:
            pass
    raise BadRow(f"{table.name}: {sorted(key)} is not its primary key {shape.key}")


def _weight(key: Key, row: Row) -> int:
    return sum(map(_value_weight, key)) + sum(map(_value_weight, row.values()))


def _value_weight(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(map(_value_weight, value))
    return 1 if value is None or isinstance(value, bool) else 8

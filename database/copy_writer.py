"""Writing `Rows`: few in one round trip for all tables, many by COPY.

    kind      few: part of one multi-statement string     many
    insert    INSERT ... VALUES (..), (..)                COPY into the table
    upsert    INSERT ... VALUES ... ON CONFLICT           COPY into staging, INSERT ... SELECT ... ON CONFLICT
    update    UPDATE, a statement a row                   COPY into staging, UPDATE ... FROM
    delete    DELETE ... WHERE key IN (..)                COPY into staging, DELETE ... USING

Staging is a temporary table for each table that was ever written in bulk, made once a connection. Rows that were
staged before are told apart by their batch; once there are many the table is emptied.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.types import TypeEngine

from annals.database.copy_lines import LineOf, line_of
from annals.database.encoding import Encoder, Encoding, encoding_of
from annals.database.errors import BadRow, DatabaseError
from annals.database.rows import Key, Kind, Row, Rows, Values, named
from annals.database.write_connection import WriteConnection

# From this many rows of a kind in a table on, COPY is the faster way. Measured, rows of 1 KB: INSERT and COPY break
# even at 3 rows (below 12 the round trip that each table costs decides), ON CONFLICT and staging at 130, UPDATE and
# staging at 16, DELETE and staging at 60.
BULK_ROWS_MIN = {Kind.DELETE: 64, Kind.UPDATE: 16, Kind.UPSERT: 128, Kind.INSERT: 12}

# Lines handed to libpq at once: PostgreSQL works on them while the next ones are made.
_COPY_LINES = 256

# What a value raises that does not fit its column's type.
_UNFIT = (TypeError, AttributeError, KeyError, ValueError)

_batches = itertools.count(1)


@dataclass(frozen=True, slots=True)
class WriteStats:
    """What a write sent: statements (round trips, but for a COPY's two), changed rows, bytes of SQL and COPY data."""

    statements: int
    rows: int
    bytes: int


def small_statements(rows: Rows) -> list[str] | None:
    """The statements that make the changes, for who sends them along with others; None where COPY is the faster way.

    Raises BadRow for a value that does not fit its column's type.
    """
    # With so many some kind reaches its number: they are not sorted by kind in vain.
    certainly_many = sum(BULK_ROWS_MIN.values()) - len(BULK_ROWS_MIN)
    if any(len(changes) > certainly_many for _, changes in rows.tables()):
        return None
    by_table = [(table, _by_kind(changes)) for table, changes in rows.tables()]
    if any(len(changed) >= BULK_ROWS_MIN[kind] for _, kinds in by_table for kind, changed in kinds.items()):
        return None
    statements: list[str] = []
    for table, kinds in by_table:
        plan = _plan(table)
        try:
            statements += [_small(plan, kind, _named(plan, changed)) for kind, changed in kinds.items() if changed]
        except _UNFIT as error:
            raise _bad_row(table, sum(map(len, kinds.values())), error) from error
    return statements


def write(connection: WriteConnection, rows: Rows) -> WriteStats:
    """Make the changes, in the transaction that the connection has open.

    Raises BadRow for a value that does not fit its column's type, StatementFailed for what the table refuses.
    """
    if rows.is_empty():
        return WriteStats(0, 0, 0)
    if not connection.in_transaction:
        raise DatabaseError("rows are written in a transaction: their writer commits them with its position")
    writer = _Writer(connection)
    count = 0
    for table, changes in rows.tables():
        count += len(changes)
        try:
            writer.add(_plan(table), changes)
        except _UNFIT as error:
            raise _bad_row(table, len(changes), error) from error
    writer.flush()
    return WriteStats(writer.statements, count, writer.bytes)


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    quoted: str
    type: TypeEngine[Any]
    encoding: Encoding
    is_required: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of a table before there are rows."""

    quoted: str
    staging: str
    columns: tuple[_Column, ...]
    key: tuple[_Column, ...]
    by_name: Mapping[str, _Column]
    table: Table
    column_list: str
    on_conflict: str
    key_match: str

    @property
    def make_staging(self) -> str:
        columns = ", ".join(f"{column.quoted} {column.encoding.sql_type}" for column in self.columns)
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.staging} (staged_batch bigint, {columns})"


@cache
def _plan(table: Table) -> _Plan:
    columns = tuple(_column(c) for c in table.columns)
    by_name = {column.name: column for column in columns}
    key = tuple(by_name[c.name] for c in table.primary_key.columns)
    others = [column for column in columns if column not in key]
    change = ", ".join(f"{column.quoted} = excluded.{column.quoted}" for column in others)
    return _Plan(
        quoted=_identifier(table.name),
        staging=_identifier(f"staging_{table.name}"),
        columns=columns,
        key=key,
        by_name=by_name,
        table=table,
        column_list=", ".join(column.quoted for column in columns),
        on_conflict=f" ON CONFLICT ({', '.join(column.quoted for column in key)}) DO "
        + (f"UPDATE SET {change}" if others else "NOTHING"),
        key_match=" AND ".join(f"t.{column.quoted} = s.{column.quoted}" for column in key),
    )


def _column(column: Column[Any]) -> _Column:
    return _Column(
        column.name, _identifier(column.name), column.type, encoding_of(column.type), is_required=not column.nullable
    )


class _Writer:
    """One write: small statements wait in `_pending`, bulk is sent at once, after what waits."""

    def __init__(self, connection: WriteConnection) -> None:
        self._connection = connection
        self._pending: list[str] = []
        self.statements = 0
        self.bytes = 0

    def add(self, plan: _Plan, changes: Mapping[Key, tuple[Kind, Row | Values]]) -> None:
        for kind, changed in _by_kind(changes).items():
            if len(changed) >= BULK_ROWS_MIN[kind]:
                self.flush()
                self._bulk(plan, kind, changed)
            elif changed:
                self._pending.append(_small(plan, kind, _named(plan, changed)))

    def flush(self) -> None:
        if self._pending:
            self._send("; ".join(self._pending))
            self._pending.clear()

    def _bulk(self, plan: _Plan, kind: Kind, changed: Sequence[tuple[Key, Row | Values]]) -> None:
        if kind is Kind.INSERT:
            self._copy(f"{plan.quoted} ({plan.column_list})", _copy_rows(plan.columns, changed))
        elif kind is Kind.UPSERT:
            batch = self._stage(plan, plan.columns, _copy_rows(plan.columns, changed))
            self._send(
                f"INSERT INTO {plan.quoted} ({plan.column_list}) SELECT {plan.column_list} FROM {plan.staging}"
                f" WHERE staged_batch = {batch}{plan.on_conflict}"
            )
        elif kind is Kind.UPDATE:
            for names, group in _by_changed_columns(_named(plan, changed)).items():
                self._bulk_update(plan, [plan.by_name[name] for name in names], group)
        else:
            batch = self._stage(plan, plan.key, _copy_keys(plan.key, changed))
            self._send(
                f"DELETE FROM {plan.quoted} t USING {plan.staging} s"
                f" WHERE s.staged_batch = {batch} AND {plan.key_match}"
            )

    def _bulk_update(self, plan: _Plan, columns: Sequence[_Column], changed: Sequence[tuple[Key, Row]]) -> None:
        keys = _copy_keys(plan.key, changed)
        values = _copy_rows(columns, changed)
        batch = self._stage(plan, [*plan.key, *columns], map("\t".join, zip(keys, values, strict=True)))
        change = ", ".join(f"{column.quoted} = s.{column.quoted}" for column in columns)
        self._send(
            f"UPDATE {plan.quoted} t SET {change} FROM {plan.staging} s"
            f" WHERE s.staged_batch = {batch} AND {plan.key_match}"
        )

    def _stage(self, plan: _Plan, columns: Sequence[_Column], lines: Iterable[str]) -> int:
        """COPY lines into the table's staging; the number of this batch there."""
        batch = next(_batches)
        prefix = f"{batch}\t"
        self._connection.prepare_staging(plan.staging, plan.make_staging)
        names = ", ".join(column.quoted for column in columns)
        data_bytes = self._copy(f"{plan.staging} (staged_batch, {names})", (prefix + line for line in lines))
        self._connection.staged(plan.staging, data_bytes)
        return batch

    def _copy(self, target: str, lines: Iterable[str]) -> int:
        source = _CopySource(lines)
        try:
            self._connection.copy_in(f"COPY {target} FROM STDIN", source)
        except DatabaseError:
            # A source that raises cancels the COPY, and psycopg2 tells of that only.
            if source.error is not None:
                raise source.error from None
            raise
        self.statements += 1
        self.bytes += source.bytes
        return source.bytes

    def _send(self, sql: str) -> None:
        self._connection.execute_many_in_one([sql])
        self.statements += 1
        self.bytes += len(sql)


def _bad_row(table: Table, count: int, error: Exception) -> BadRow:
    return BadRow(f"{table.name}: {error!r} in one of {count} changed rows")


def _by_kind(changes: Mapping[Key, tuple[Kind, Row | Values]]) -> dict[Kind, list[tuple[Key, Row | Values]]]:
    kinds: dict[Kind, list[tuple[Key, Row | Values]]] = {kind: [] for kind in Kind}
    for key, (kind, row) in changes.items():
        kinds[kind].append((key, row))
    return kinds


def _small(plan: _Plan, kind: Kind, changed: Sequence[tuple[Key, Row]]) -> str:
    if kind is Kind.DELETE:
        return _small_delete(plan, [key for key, _ in changed])
    if kind is Kind.UPDATE:
        return "; ".join([_small_update(plan, key, row) for key, row in changed])
    columns = [(column.name, column.encoding.literal) for column in plan.columns]
    for _, row in changed:
        if not row.keys() <= plan.by_name.keys():
            raise BadRow(f"{plan.quoted} has no columns {sorted(row.keys() - plan.by_name.keys())}")
    values = ", ".join(
        ["(" + ", ".join([literal(row.get(name)) for name, literal in columns]) + ")" for _, row in changed]
    )
    conflict = plan.on_conflict if kind is Kind.UPSERT else ""
    return f"INSERT INTO {plan.quoted} ({plan.column_list}) VALUES {values}{conflict}"


def _small_delete(plan: _Plan, keys: Sequence[Key]) -> str:
    if len(plan.key) == 1:
        column = plan.key[0]
        return f"DELETE FROM {plan.quoted} WHERE {column.quoted} IN ({', '.join(_key_literals(plan, keys))})"
    names = ", ".join(column.quoted for column in plan.key)
    tuples = ", ".join([f"({literals})" for literals in _key_literals(plan, keys)])
    return f"DELETE FROM {plan.quoted} WHERE ({names}) IN ({tuples})"


def _key_literals(plan: _Plan, keys: Iterable[Key]) -> list[str]:
    encoders = [column.encoding.literal for column in plan.key]
    return [", ".join([encode(value) for encode, value in zip(encoders, key, strict=True)]) for key in keys]


def _small_update(plan: _Plan, key: Key, row: Row) -> str:
    columns = [plan.by_name[name] for name in row]
    change = ", ".join([f"{column.quoted} = {column.encoding.literal(row[column.name])}" for column in columns])
    match = " AND ".join(
        [f"{column.quoted} = {column.encoding.literal(value)}" for column, value in zip(plan.key, key, strict=True)]
    )
    return f"UPDATE {plan.quoted} SET {change} WHERE {match}"


class _CopySource:
    """Lines, encoded while PostgreSQL works on the ones before: a file to read from, for copy_in."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.bytes = 0
        self.error: Exception | None = None

    def read(self, size: int = 0, /) -> bytes:
        """The next lines, or nothing at the end; `size` is not honoured, as psycopg2 takes what it gets."""
        try:
            lines = list(itertools.islice(self._lines, _COPY_LINES))
        except Exception as error:
            self.error = error
            raise
        if not lines:
            return b""
        data = ("\n".join(lines) + "\n").encode()
        self.bytes += len(data)
        return data


def _named(plan: _Plan, changed: Iterable[tuple[Key, Row | Values]]) -> list[tuple[Key, Row]]:
    return [(key, named(plan.table, row)) for key, row in changed]


def _copy_rows(columns: Sequence[_Column], changed: Iterable[tuple[Key, Row | Values]]) -> Iterator[str]:
    line = _line_of(tuple(columns))
    return (line(row) for _, row in changed)


@cache
def _line_of(columns: tuple[_Column, ...]) -> LineOf:
    required = [column.name for column in columns if column.is_required]
    return line_of([(column.name, column.type) for column in columns], required)


def _copy_keys(columns: Sequence[_Column], changed: Iterable[tuple[Key, Row | Values]]) -> Iterator[str]:
    encoders: list[Encoder] = [column.encoding.copy for column in columns]
    return ("\t".join([encode(value) for encode, value in zip(encoders, key, strict=True)]) for key, _ in changed)


def _by_changed_columns(changed: Iterable[tuple[Key, Row]]) -> dict[tuple[str, ...], list[tuple[Key, Row]]]:
    groups: dict[tuple[str, ...], list[tuple[Key, Row]]] = {}
    for key, row in changed:
        groups.setdefault(tuple(sorted(row)), []).append((key, row))
    return groups


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

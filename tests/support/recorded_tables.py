"""Rows of tables as text that can be committed, put back, and compared; and what a schema consists of."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

#: Columns to their values as text, None for NULL; a table's rows in one order.
Rows = dict[str, list[dict[str, str | None]]]

_BOOKKEEPING = "alembic_version"
_END = "\\."
_SCHEMA = {
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d
        ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'v', 'm') AND a.attnum > 0 AND NOT attisdropped
    """,
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = %s",
    "constraints": "SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = %s::regnamespace AND contype <> 'n'",
    "relations": "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = %s::regnamespace",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = %s::regnamespace",
}


@contextmanager
def connected(url: str) -> Iterator[psycopg2.extensions.connection]:
    """A connection in autocommit mode, closed at the end."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        yield connection
    finally:
        connection.close()


def query(connection: psycopg2.extensions.connection, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """All rows of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments)
        return cursor.fetchall()


def schema_of(url: str, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that a schema consists of, without its rows; two are equal when these are."""
    with connected(url) as connection:
        return {kind: sorted(query(connection, sql, schema), key=repr) for kind, sql in _SCHEMA.items()}


def rows_of(url: str, schema: str) -> Rows:
    """The rows of every table of a schema."""
    with connected(url) as connection:
        return {table: _rows(connection, schema, table) for table in _tables(connection, schema)}


def _tables(connection: psycopg2.extensions.connection, schema: str) -> list[str]:
    sql = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> %s ORDER BY 1"
    return [name for (name,) in query(connection, sql, schema, _BOOKKEEPING)]


def _columns(connection: psycopg2.extensions.connection, schema: str, table: str) -> list[str]:
    sql = "SELECT column_name FROM information_schema.columns WHERE (table_schema, table_name) = (%s, %s) ORDER BY 1"
    return [name for (name,) in query(connection, sql, schema, table)]


def _rows(connection: psycopg2.extensions.connection, schema: str, table: str) -> list[dict[str, str | None]]:
    columns = _columns(connection, schema, table)
    wanted = ", ".join(f'"{column}"::text' for column in columns)
    found = [
        dict(zip(columns, row, strict=True)) for row in query(connection, f'SELECT {wanted} FROM {schema}."{table}"')
    ]
    return sorted(found, key=repr)


def save_rows(url: str, schema: str, path: Path) -> None:
    """Write the rows of every table of a schema into a file, as PostgreSQL's COPY has them."""
    with connected(url) as connection, path.open("w", encoding="utf-8", newline="\n") as file:
        for table in _tables(connection, schema):
            columns = ", ".join(f'"{column}"' for column in _columns(connection, schema, table))
            text = io.StringIO()
            with connection.cursor() as cursor:
                sql = f'COPY (SELECT {columns} FROM {schema}."{table}" t ORDER BY t::text COLLATE "C") TO STDOUT'
                cursor.copy_expert(sql, text)
            file.write(f'"{table}" ({columns})\n{text.getvalue()}{_END}\n')


def load_rows(url: str, schema: str, path: Path) -> None:
    """Put the rows of a file into the tables of a schema, which are empty."""
    # Not splitlines: what people said has other line separators in it.
    lines = iter(path.read_text(encoding="utf-8").split("\n"))
    with connected(url) as connection, connection.cursor() as cursor:
        for head in filter(None, lines):
            rows = "".join(f"{line}\n" for line in iter(lambda: next(lines), _END))
            cursor.copy_expert(f"COPY {schema}.{head} FROM STDIN", io.StringIO(rows))

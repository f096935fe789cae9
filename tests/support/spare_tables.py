"""Databases with the tables of a template, for test after test: to clean one takes a tenth of the time of making one.

    with spare_tables(postgres).tables() as url:     # empty tables of generation g1, which serves

One that a test leaves with other tables than it got is dropped, and so is one that has grown or cannot be cleaned. What
PostgreSQL knows of the distribution of rows stays: a test of its plans takes `unused()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions

from annals.database.migrate import migrate
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer, database_name

_KEPT = "alembic_version"
_GROWTH_BYTES_MAX = 16 << 20
_SHAPE = """
SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relnatts, c.relname, c.reloptions
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema') AND n.nspname NOT LIKE 'pg_temp%'
    AND n.nspname NOT LIKE 'pg_toast_temp%' ORDER BY 1"""
_END_OTHERS = """
SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""

_Shape = list[tuple[Any, ...]]


class SpareTables:
    """Databases of one template, the name of a database that nobody is connected to. Of one thread."""

    def __init__(self, postgres: PostgresServer, template: str) -> None:
        self._postgres, self._template = postgres, template
        self._free: list[str] = []
        self._shape: _Shape = []
        self._bytes = 0
        #: What is in the tables at first, as JSON.
        self._rows: dict[str, str] = {}

    @contextmanager
    def tables(self) -> Iterator[str]:
        """The URL of a database that is this test's alone."""
        url = self._free.pop() if self._free else self._made()
        try:
            yield url
        finally:
            if self._cleaned(url):
                self._free.append(url)
            else:
                self._postgres.drop_database(url)

    @contextmanager
    def unused(self) -> Iterator[str]:
        """The URL of one that no test has used before."""
        url = self._made()
        yield url
        self._postgres.drop_database(url)

    def _made(self) -> str:
        url = self._postgres.fresh_database("spare", self._template)
        if not self._shape:
            with _connected(url) as cursor:
                self._shape, self._bytes = _rows(cursor, _SHAPE), _size_bytes(cursor)
                for table in self._filled(cursor):
                    [(rows,)] = _rows(cursor, f"SELECT json_agg(t)::text FROM {table} t")
                    self._rows[table] = rows
        return url

    def _cleaned(self, url: str) -> bool:
        try:
            with _connected(url) as cursor:
                ended = _rows(cursor, _END_OTHERS, (int(PATIENCE_S * 1000),))
                if not all(is_ended for (is_ended,) in ended) or _rows(cursor, _SHAPE) != self._shape:
                    return False
                if _size_bytes(cursor) > self._bytes + _GROWTH_BYTES_MAX:
                    return False
                for table in self._filled(cursor):
                    cursor.execute(f"DELETE FROM {table}")
                for table, rows in self._rows.items():
                    cursor.execute(
                        f"INSERT INTO {table} SELECT * FROM json_populate_recordset(null::{table}, %s)", (rows,)
                    )
                for name, kind, *_ in self._shape:
                    if kind == "S":
                        cursor.execute(f"ALTER SEQUENCE {name} RESTART")
        except psycopg2.Error:
            return False
        return True

    def _filled(self, cursor: psycopg2.extensions.cursor) -> list[str]:
        tables = [name for name, kind, _, plain_name, _ in self._shape if kind == "r" and plain_name != _KEPT]
        looks = (f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
        return [name for (name,) in _rows(cursor, " UNION ALL ".join(looks))]


_of_servers: dict[PostgresServer, SpareTables] = {}


def spare_tables(postgres: PostgresServer) -> SpareTables:
    """Those of this server that are migrated, and no more."""
    found = _of_servers.get(postgres)
    if found is None:
        url = postgres.fresh_database("migrated")
        migrate(url, "g1")
        found = _of_servers[postgres] = SpareTables(postgres, database_name(url))
    return found


@contextmanager
def _connected(url: str) -> Iterator[psycopg2.extensions.cursor]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def _size_bytes(cursor: psycopg2.extensions.cursor) -> int:
    [(size_bytes,)] = _rows(cursor, "SELECT pg_database_size(current_database())")
    return int(size_bytes)


def _rows(cursor: psycopg2.extensions.cursor, sql: str, params: Any = None) -> _Shape:
    cursor.execute(sql, params)
    return cursor.fetchall()

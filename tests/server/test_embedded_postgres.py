"""The embedded PostgreSQL: first start, restart, and what each kind of kill leaves behind."""

from __future__ import annotations

import psycopg2

from tests.support.postgres import PostgresServer


def rows(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def test_each_database_is_empty_and_its_own(postgres: PostgresServer) -> None:
    one, other = postgres.fresh_database(), postgres.fresh_database()
    rows(one, "CREATE TABLE t (x int)")
    assert rows(other, "SELECT to_regclass('t')") == [(None,)]

"""A PostgreSQL for the tests of one run: the embedded wheel, started once, and empty databases in it.

In a test:

    def test_x(postgres: PostgresServer) -> None:
        url = postgres.fresh_database()                  # empty, about 30 ms
        url = postgres.fresh_database(template="tpl")    # a copy of a database that nobody is connected to

or, where one empty database a test is all that it takes, the fixture `database_url`.
The server runs with fsync off: it survives the SIGKILL of a process, not of the machine.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from annals.server.embedded_postgres import EmbeddedPostgres

TEST_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


class PostgresServer:
    """The server of this run. `embedded` is the running cluster, for tests that read its pid or log."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.embedded = embedded
        self._numbers = itertools.count(1)

    def url(self, database: str = "postgres") -> str:
        return self.embedded.url(database)

    def fresh_database(self, prefix: str = "test", template: str = "template0") -> str:
        """Make a database (empty, or a copy of `template`) and return its URL."""
        name = f"{prefix}_{next(self._numbers)}"
        self.admin(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database by its URL, whoever is connected to it."""
        name = url.partition("?")[0].rpartition("/")[2]
        self.admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def admin(self, statement: str) -> None:
        """One statement outside of a transaction, as superuser, in the database `postgres`."""
        connection = psycopg2.connect(self.url())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run."""
    with tempfile.TemporaryDirectory(prefix="annals-test-pg-", ignore_cleanup_errors=True) as folder:
        embedded = EmbeddedPostgres(Path(folder) / "postgres", settings=TEST_SETTINGS)
        embedded.start()
        try:
            yield PostgresServer(embedded)
        finally:
            embedded.stop()


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database for one test, dropped after it."""
    url = postgres.fresh_database()
    yield url
    postgres.drop_database(url)

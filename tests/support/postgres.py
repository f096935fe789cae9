"""A PostgreSQL for the tests of one run: the embedded wheel, started once, and empty databases in it.

In a test:

    def test_x(postgres: PostgresServer) -> None:
        url = postgres.fresh_database()                  # empty, about 30 ms
        url = postgres.fresh_database(template="tpl")    # a copy of a database that nobody is connected to

or, where one empty database a test is all that it takes, the fixture `database_url`.

`postgres15` is the oldest release that we support, where Debian has put it. ANNALS_TEST_POSTGRES=15 runs every test on
it that takes `postgres`.
The server runs with fsync off: it survives the SIGKILL of a process, not of the machine.
"""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import psycopg2
import pytest

from annals.server import embedded_postgres
from annals.server.embedded_postgres import EmbeddedPostgres
from annals.server.parent_death import before_exec

TEST_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
OLDEST = Path("/usr/lib/postgresql/15/bin")
#: Settings that PostgreSQL 15 does not know.
_NEWER_SETTINGS = ("io_method",)


def database_name(url: str) -> str:
    """The name of the database of a URL, to copy it, or to forbid it connections."""
    return url.partition("?")[0].rpartition("/")[2]


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
        # Files are copied quicker than pages are logged.
        self.admin(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database by its URL, whoever is connected to it."""
        self.admin(f'DROP DATABASE IF EXISTS "{database_name(url)}" WITH (FORCE)')

    def admin(self, statement: str) -> None:
        """One statement outside of a transaction, as superuser, in the database `postgres`."""
        connection = psycopg2.connect(self.url())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


class OldestPostgres(EmbeddedPostgres):
    """A cluster of the oldest release that we support, run as the wheel's is."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, TEST_SETTINGS, _with_us())
        for name in _NEWER_SETTINGS:
            del self._settings[name]

    def start(self) -> str:
        """Start it with the binaries of Debian's package."""
        with mock.patch.object(embedded_postgres, "readable_binaries", return_value=OLDEST):
            return super().start()


def _with_us() -> Callable[[], None]:
    """It ends with this process, however that ends."""
    return before_exec(signal.SIGINT)


@contextmanager
def _running(oldest: bool) -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="annals-test-pg-", ignore_cleanup_errors=True) as folder:
        # Programs of PostgreSQL 15 leave their directory and come back to it by its path.
        Path(folder).chmod(0o711)
        directory = Path(folder) / "postgres"
        embedded = OldestPostgres(directory) if oldest else EmbeddedPostgres(directory, TEST_SETTINGS, _with_us())
        try:
            embedded.start()
            yield PostgresServer(embedded)
        finally:
            embedded.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole run."""
    with _running(oldest=os.environ.get("ANNALS_TEST_POSTGRES") == "15") as server:
        yield server


@pytest.fixture(scope="session")
def postgres15() -> Iterator[PostgresServer]:
    """One PostgreSQL 15 for the whole run; skips where there is none."""
    if not (OLDEST / "postgres").exists():
        pytest.skip(f"there is no PostgreSQL 15 in {OLDEST}: Debian's package postgresql-15 brings it")
    with _running(oldest=True) as server:
        yield server


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty database for one test, dropped after it."""
    url = postgres.fresh_database()
    yield url
    postgres.drop_database(url)

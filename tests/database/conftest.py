"""Databases for the tests of database/, with the tables of tests/support/tables.py in g1 and g2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from annals.database.migrate import create_generation, migrate
from annals.database.write_connection import WriteConnection
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer, database_name
from tests.support.tables import create_tables

RESET = """
    TRUNCATE g1.positions, g1.every_type, g1.keys_only, g2.positions, g2.every_type, g2.keys_only;
    TRUNCATE ops.leases, ops.cursors;
    DELETE FROM ops.serving;
    INSERT INTO ops.serving (generation) VALUES ('g1')
"""


@pytest.fixture(scope="session")
def prepared(postgres: PostgresServer) -> str:
    """The name of a database to copy, with `ops`, g1 and g2, a table of positions and the test tables in both."""
    url = postgres.fresh_database()
    migrate(url)
    create_generation(url, "g2")
    for generation in ("g1", "g2"):
        writer = WriteConnection(url, generation)
        writer.execute("DROP TABLE IF EXISTS positions")
        writer.execute("CREATE TABLE positions (topic text, next bigint)")
        writer.close()
        create_tables(url, generation)
    return database_name(url)


@pytest.fixture(scope="session")
def shared_url(postgres: PostgresServer, prepared: str) -> str:
    """The database of the tests that leave its tables as they are: making one takes longer than most tests."""
    return postgres.fresh_database(template=prepared)


@pytest.fixture
def own_database() -> None:
    """For tests that leave a database unfit for others: `url` is then theirs alone."""


@pytest.fixture
def url(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[str]:
    """A prepared database, with empty tables, serving g1."""
    if "own_database" in request.fixturenames:
        url = postgres.fresh_database(template=request.getfixturevalue("prepared"))
        yield url
        postgres.drop_database(url)
        return
    url = request.getfixturevalue("shared_url")
    connection = WriteConnection(url, lock_timeout_ms=int(PATIENCE_S * 1000))
    connection.execute(RESET)
    connection.close()
    yield url


@pytest.fixture
def writer(url: str) -> Iterator[WriteConnection]:
    """A writer into g1 of it."""
    connection = WriteConnection(url, "g1")
    yield connection
    connection.close()

"""A migrated database, and one with the tables of tests/support/tables.py in g1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from annals.database.migrate import create_generation, migrate
from annals.database.write_connection import WriteConnection

from tests.support.postgres import PostgresServer
from tests.support.tables import create_tables


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """The name of a database with `ops`, g1, g2, a table of positions and the test tables in both."""
    url = postgres.fresh_database("template")
    migrate(url)
    create_generation(url, "g2")
    for generation in ("g1", "g2"):
        writer = WriteConnection(url, generation)
        writer.execute("DROP TABLE IF EXISTS positions")
        writer.execute("CREATE TABLE positions (topic text, next bigint)")
        writer.close()
        create_tables(url, generation)
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def url(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A copy of that database, for one test."""
    url = postgres.fresh_database(template=migrated_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def writer(url: str) -> Iterator[WriteConnection]:
    """A writer into g1 of it."""
    connection = WriteConnection(url, "g1")
    yield connection
    connection.close()

"""Fixtures of the small server (accounts_house), for the conftest files that want them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from annals.database.migrate import migrate
from tests.support.accounts_house import House, accounts_house, live_house
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """Name of a database with the tables of g1, to be copied."""
    url = postgres.fresh_database("template")
    migrate(url)
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def house(postgres: PostgresServer, migrated: str, tmp_path: Path) -> Iterator[House]:
    """The application over empty tables and an empty log."""
    url = postgres.fresh_database(template=migrated)
    with accounts_house(url, tmp_path) as made:
        yield made
    postgres.drop_database(url)


@pytest.fixture
def live(postgres: PostgresServer, migrated: str, tmp_path: Path) -> Iterator[House]:
    """The same, with the projectors' loop in a thread and its notifications."""
    url = postgres.fresh_database(template=migrated)
    with live_house(url, tmp_path) as made:
        yield made
    postgres.drop_database(url)

"""Fixtures of the small server (accounts_house), for the conftest files that want them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts_house import House, accounts_house, live_house
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def migrated(tables_template: str) -> str:
    """Name of a database with the tables of g1, to be copied."""
    return tables_template


@pytest.fixture
def house(postgres: PostgresServer, migrated: str, tmp_path: Path) -> Iterator[House]:
    """The application over empty tables and an empty log."""
    url = postgres.fresh_database(template=migrated)
    with accounts_house(url, tmp_path) as made:
        yield made
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def shared_house(postgres: PostgresServer, migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for those tests of a module whose requests change nothing: what they are refused leaves no trace."""
    url = postgres.fresh_database(template=migrated)
    with accounts_house(url, tmp_path_factory.mktemp("house")) as made:
        yield made
    postgres.drop_database(url)


@pytest.fixture
def live(postgres: PostgresServer, migrated: str, tmp_path: Path) -> Iterator[House]:
    """The same, with the projectors' loop in a thread and its notifications."""
    url = postgres.fresh_database(template=migrated)
    with live_house(url, tmp_path) as made:
        yield made
    postgres.drop_database(url)

"""Fixtures of the small server (accounts_house), for the conftest files that want them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts_house import House, accounts_house, live_house
from tests.support.postgres import PostgresServer
from tests.support.spare_tables import spare_tables


@pytest.fixture
def house(postgres: PostgresServer, tmp_path: Path) -> Iterator[House]:
    """The application over empty tables and an empty log."""
    with spare_tables(postgres).tables() as url, accounts_house(url, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared_house(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for those tests of a module whose requests change nothing: what they are refused leaves no trace."""
    folder = tmp_path_factory.mktemp("house")
    with spare_tables(postgres).tables() as url, accounts_house(url, folder) as made:
        yield made


@pytest.fixture
def live(postgres: PostgresServer, tmp_path: Path) -> Iterator[House]:
    """The same, with the projectors' loop in a thread and its notifications."""
    with spare_tables(postgres).tables() as url, live_house(url, tmp_path) as made:
        yield made

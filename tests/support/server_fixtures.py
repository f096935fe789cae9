"""Fixtures of the whole server (tests.support.server), for the conftest files that want them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from annals.database.migrate import migrate
from tests.support.postgres import PostgresServer
from tests.support.server import LiveServer, live_server


@pytest.fixture(scope="module")
def server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for the tests of a module."""
    url = postgres.fresh_database("live")
    migrate(url)
    with live_server(url, tmp_path_factory.mktemp("server")) as made:
        yield made
    postgres.drop_database(url)

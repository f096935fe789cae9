"""Fixtures of the whole server (tests.support.server), for the conftest files that want them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from annals.database.migrate import migrate
from annals.eventlog.embedded import open_embedded
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.server import SERVER_NAME, LiveServer, live_server


@pytest.fixture(scope="module")
def server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for the tests of a module; at its end the tables are built again from the log, and compared."""
    url = postgres.fresh_database("live")
    migrate(url)
    directory = tmp_path_factory.mktemp("server")
    with live_server(url, directory) as made:
        yield made
        log_dir = made.config.log_dir
    log = open_embedded(log_dir)
    try:
        assert_generations_equal(log, url, SERVER_NAME)
    finally:
        log.close()
        postgres.drop_database(url)

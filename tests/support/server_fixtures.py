"""Fixtures of the whole server (tests.support.server), for the conftest files that want them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from annals.database.migrate import migrate
from annals.server.operator_access import opened_log
from tests.support.backends import LogBackend
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.server import SERVER_NAME, LiveServer, live_server


@pytest.fixture(scope="module")
def server(
    postgres: PostgresServer, log_backend: LogBackend, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """One server on each log for the tests of a module; then the tables are built again from the log, and compared."""
    url = postgres.fresh_database("live")
    migrate(url)
    directory = tmp_path_factory.mktemp("server")
    with live_server(url, directory, **log_backend.settings()) as made:
        yield made
    with opened_log(made.config) as log:
        assert_generations_equal(log, url, SERVER_NAME)
    postgres.drop_database(url)

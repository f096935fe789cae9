"""Fixtures of the whole server (tests.support.server), for the conftest files that want them.

One server on each log serves all tests of a worker: let each test bring users, rooms and other servers of its own.
When all are through, the tables are built again from each log, and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from annals.database.migrate import migrate
from annals.server.operator_access import opened_log
from tests.support.backends import LogBackend
from tests.support.kafka import KafkaAddress
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.server import SERVER_NAME, LiveServer, live_server


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, log_backend: LogBackend) -> LiveServer:
    """The one server of this run on this log."""
    live: LiveServer = request.getfixturevalue(f"{log_backend.name}_live_server")
    return live


@pytest.fixture(scope="session")
def embedded_live_server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with _serving(postgres, tmp_path_factory.mktemp("server"), LogBackend("embedded")) as live:
        yield live


@pytest.fixture(scope="session")
def kafka_live_server(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory, kafka: KafkaAddress
) -> Iterator[LiveServer]:
    with _serving(postgres, tmp_path_factory.mktemp("server"), LogBackend("kafka", kafka.bootstrap)) as live:
        yield live


@contextmanager
def _serving(postgres: PostgresServer, directory: Path, backend: LogBackend) -> Iterator[LiveServer]:
    url = postgres.fresh_database("live")
    migrate(url)
    with live_server(url, directory, **backend.settings()) as made:
        yield made
    with opened_log(made.config) as log:
        assert_generations_equal(log, url, SERVER_NAME)
    postgres.drop_database(url)

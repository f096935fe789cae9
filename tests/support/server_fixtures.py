"""Fixtures of the whole server (tests.support.server), for the conftest files that want them.

One server on each log serves all tests of a worker: let each test bring users, rooms and other servers of its own.
When all are through, the tables are built again from each log, and compared.

Where a test asks what the log has no part in (bad input, who may read, the rules of each room version), the folder's
conftest.py also imports `log_backend` from here: then it runs on the embedded log, and on Kafka in a soak only. In such
a folder the tests of what goes through the log are marked:

    @on_both_logs
    def test_a_transaction_id_makes_one_event(server: LiveServer) -> None:
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from annals.server.operator_access import opened_log
from tests.support.backends import LogBackend, backend_named
from tests.support.kafka import KafkaAddress
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.server import SERVER_NAME, LiveServer, live_server
from tests.support.soak import only_in_soak
from tests.support.spare_tables import spare_tables

on_both_logs = pytest.mark.parametrize("log_backend", ["embedded", "kafka"], indirect=True, scope="session")


@pytest.fixture(scope="session", params=["embedded", only_in_soak("kafka")])
def log_backend(request: pytest.FixtureRequest) -> LogBackend:
    """The embedded log; both in a soak, or where a test is marked `on_both_logs`."""
    return backend_named(request, request.param)


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
    with spare_tables(postgres).unused() as url:
        with live_server(url, directory, **backend.settings()) as made:
            yield made
        with opened_log(made.config) as log:
            assert_generations_equal(log, url, SERVER_NAME)

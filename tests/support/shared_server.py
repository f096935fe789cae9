"""A running server on each log for all tests that only need some server: `annals serve`, as a newcomer starts it.

A conftest.py that wants it imports the fixture: `from tests.support.shared_server import server`. Its tests run twice.
When all tests are through, each server's tables are built again from its log, and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.backends import LogBackend
from tests.support.kafka import KafkaAddress
from tests.support.rebuild_check import assert_rebuild_equal
from tests.support.servers import Serve


@pytest.fixture(scope="session", params=["embedded", "kafka"])
def server(request: pytest.FixtureRequest) -> Serve:
    """The one server of this run on this log; each test brings users and rooms of its own."""
    serving: Serve = request.getfixturevalue(f"{request.param}_server")
    return serving


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with _serving(tmp_path_factory.mktemp("shared"), LogBackend("embedded")) as serving:
        yield serving


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory, kafka: KafkaAddress) -> Iterator[Serve]:
    with _serving(tmp_path_factory.mktemp("shared"), LogBackend("kafka", kafka.bootstrap)) as serving:
        yield serving


@contextmanager
def _serving(folder: Path, backend: LogBackend) -> Iterator[Serve]:
    with Serve(folder, ANNALS_REGISTRATION__SHARED_SECRET="complement", **backend.environment()) as serving:
        serving.start()
        yield serving
        assert_rebuild_equal(serving.config)

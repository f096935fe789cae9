"""The fixtures of Kafka; tests/conftest.py gives them to all tests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.support.kafka.broker import KafkaBroker
from tests.support.kafka.shared import KafkaAddress, join, leave
from tests.support.patience import PATIENCE_S


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaAddress]:
    """The broker of this run, shared by all workers."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "kafka"
    yield join(folder)
    leave(folder)


@pytest.fixture
def kafka_namespace(kafka: KafkaAddress) -> Iterator[str]:
    """A namespace that no other test has. Its topics are deleted after the test."""
    namespace = f"t{uuid.uuid4().hex[:12]}"
    yield namespace
    delete_topics(kafka.bootstrap, namespace)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker for one test, which may kill it."""
    with KafkaBroker(tmp_path / "kafka") as broker:
        yield broker


def delete_topics(bootstrap: str, namespace: str) -> None:
    """Delete all topics of a namespace."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    ours = [name for name in admin.list_topics(timeout=PATIENCE_S).topics if name.startswith(namespace)]
    if ours:
        for future in admin.delete_topics(ours).values():
            future.result(PATIENCE_S)

"""The conformance suite on Apache Kafka, and what only a broker can do wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from annals.eventlog.kafka import KafkaLog, KafkaSettings, initialise, open_kafka
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.limits import Limits
from tests.support.kafka.shared import KafkaAddress
from tests.support.log_contract import LogContract, real_ms
from tests.support.log_workers import Opener


class KafkaBackend:
    atomic_append = False

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.opener: Opener = partial(open_kafka, settings)
        initialise(settings, [])

    def open(self, now_ms: Callable[[], int] | None = None, max_queued: int | None = None) -> KafkaLog:
        limits = Limits() if max_queued is None else Limits(records=max_queued)
        return open_kafka(self.settings, now_ms or real_ms, limits)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Fewer replicas than an acknowledgement needs: the broker refuses, the client tries again."""
        administration = Administration(self.settings)
        for topic in ("one", "plain"):
            administration.alter(topic, {"min.insync.replicas": "2"})
        try:
            yield
        finally:
            for topic in ("one", "plain"):
                administration.alter(topic, {"min.insync.replicas": "1"})


@pytest.fixture
def backend(kafka: KafkaAddress, kafka_namespace: str) -> KafkaBackend:
    return KafkaBackend(KafkaSettings(kafka.bootstrap, kafka_namespace))


class TestKafka(LogContract):
    pass

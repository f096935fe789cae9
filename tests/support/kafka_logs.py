"""Logs on a broker that a test does things to, and how long they are to wait for it.

log = open_kafka(patient(bootstrap, "t1"))      # waits for a slow machine: what it fails at is not there
log = opened(hasty(bootstrap, "t1"))            # soon finds a broker away that is; slow ones too
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from annals.eventlog.api import Append
from annals.eventlog.errors import LogUnavailable
from annals.eventlog.kafka import KafkaLog, KafkaSettings, initialise, open_kafka
from annals.schemas.topics import TopicSpec
from tests.support.log_contract import everything
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until

T = TypeVar("T")
SPECS = [TopicSpec("one", 1), TopicSpec("plain", 4), TopicSpec("latest", 1, compacted=True)]
_HASTE_MS = 2_000
_PATIENCE_MS = int(PATIENCE_S * 1000)


def patient(bootstrap: str, namespace: str) -> KafkaSettings:
    """Where the broker is there, however slow."""
    return KafkaSettings(bootstrap, namespace, append_timeout_ms=_PATIENCE_MS, request_timeout_ms=_PATIENCE_MS)


def hasty(bootstrap: str, namespace: str) -> KafkaSettings:
    """Where it will be away, and all must fail in time."""
    return KafkaSettings(bootstrap, namespace, append_timeout_ms=_HASTE_MS, request_timeout_ms=_HASTE_MS)


def make_topics(settings: KafkaSettings) -> None:
    """The log and its topics; the broker has its time for it."""
    initialise(dataclasses.replace(settings, request_timeout_ms=_PATIENCE_MS, append_timeout_ms=_PATIENCE_MS), SPECS)


def opened(settings: KafkaSettings) -> KafkaLog:
    """A log whose way to the broker stands: the first append waits for the producer's number besides."""
    log = in_the_end(lambda: open_kafka(settings))
    append_in_the_end(log, "plain", 3, b"")
    return log


def in_the_end(call: Callable[[], T]) -> T:
    """What a call gives once the broker answers in time."""
    given: list[T] = []

    def answered() -> bool:
        try:
            given.append(call())
        except LogUnavailable:
            return False
        return True

    until(answered)
    return given[0]


def append_in_the_end(log: KafkaLog, topic: str, partition: int, value: bytes) -> None:
    """Append until it is acknowledged: it may then stand there more than once."""
    until(lambda: log.append([Append(topic, partition, b"k", value)]).exception(PATIENCE_S) is None)


def values(log: KafkaLog, topic: str = "one") -> list[Any]:
    """What stands on partition 0."""
    return [record.value for record in everything(log, topic, 0)]

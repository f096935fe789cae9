"""The conformance suite on Apache Kafka, and what only a broker can do wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import pytest

from annals.eventlog.api import Log, TopicPartition
from annals.eventlog.kafka import KafkaLog, KafkaSettings, initialise, membership, open_kafka, tail
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka.membership import KafkaMembership
from annals.eventlog.limits import Limits
from annals.schemas.topics import TopicSpec
from tests.support.kafka.broker import KafkaBroker
from tests.support.kafka.shared import KafkaAddress
from tests.support.kafka_logs import patient
from tests.support.kafka_topics import alter
from tests.support.log_contract import FILLER_KEY, KEEPING_TOPICS, KeepingContract, LogContract, put, real_ms
from tests.support.log_workers import SPAWN, Opener, hold_partitions, process
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until

SHARED = [TopicSpec("plain", 4), TopicSpec("one", 1)]


class KafkaBackend:
    atomic_append = False

    def __init__(self, settings: KafkaSettings, broker: KafkaBroker | None = None) -> None:
        self.settings, self.broker = settings, broker
        self.opener: Opener = partial(open_kafka, settings)
        initialise(settings, [])

    def open(self, now_ms: Callable[[], int] | None = None, max_queued: int | None = None) -> KafkaLog:
        limits = Limits() if max_queued is None else Limits(records=max_queued)
        return open_kafka(self.settings, now_ms or real_ms, limits)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        assert self.broker is not None
        self.broker.pause()
        try:
            yield
        finally:
            self.broker.resume()

    def compact(self, log: Log, topic: str) -> None:
        """The broker cleans segments that are written no more, and begins another one when an append comes."""
        spec = next(spec for spec in KEEPING_TOPICS if spec.name == topic)
        if spec.compacted:
            haste = {"segment.ms": "1", "min.compaction.lag.ms": "0", "min.cleanable.dirty.ratio": "0.0"}
            alter(self.settings, topic, haste)
            for partition in range(spec.partitions):
                put(log, topic, partition, b"", key=FILLER_KEY)
                time.sleep(0.01)
                put(log, topic, partition, b"", key=FILLER_KEY)


@pytest.fixture
def backend(kafka: KafkaAddress, kafka_namespace: str) -> KafkaBackend:
    return KafkaBackend(patient(kafka.bootstrap, kafka_namespace))


@pytest.fixture
def log(backend: KafkaBackend) -> Iterator[KafkaLog]:
    log = backend.open()
    log.ensure_topics(SHARED)
    yield log
    log.close()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that looks every second for what may go, not every five minutes."""
    properties = {
        "log.retention.check.interval.ms": "500",
        "log.initial.task.delay.ms": "100",
        "log.cleaner.backoff.ms": "100",
    }
    with KafkaBroker(tmp_path_factory.mktemp("hasty"), properties) as broker:
        yield broker


@pytest.fixture(autouse=True)
def patient_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that does not wait has what is there, however long the first fetch of it takes."""
    monkeypatch.setattr(tail, "_PATIENCE_S", PATIENCE_S)


def on_own(broker: KafkaBroker, request: pytest.FixtureRequest) -> KafkaBackend:
    return KafkaBackend(patient(broker.bootstrap, request.node.name[:60]), broker)


class TestKafka(LogContract):
    @pytest.fixture
    def backend(self, hasty: KafkaBroker, request: pytest.FixtureRequest) -> KafkaBackend:
        return on_own(hasty, request)


class TestKeeping(KeepingContract):
    @pytest.fixture
    def backend(self, hasty: KafkaBroker, request: pytest.FixtureRequest) -> KafkaBackend:
        return on_own(hasty, request)


# -- members


class Member:
    """A process that holds a place in a group."""

    def __init__(self, pid: int, told: Connection) -> None:
        self.pid, self._told = pid, told
        self._has: frozenset[TopicPartition] = frozenset()

    def has(self) -> frozenset[TopicPartition]:
        while self._told.poll(0):
            self._has = self._told.recv()
        return self._has


@contextmanager
def member_of(opener: Opener, topics: list[str]) -> Iterator[Member]:
    parent, child = SPAWN.Pipe()
    with process(hold_partitions, opener, "workers", topics, child) as running:
        assert running.pid is not None
        yield Member(running.pid, parent)


ALL = {("plain", number) for number in range(4)} | {("one", 0)}


def shared_exactly(*members: Member) -> bool:
    """All partitions are somebody's, none is held twice, and nobody has none."""
    had = [member.has() for member in members]
    return all(had) and sum(map(len, had)) == len(ALL) and frozenset[Any]().union(*had) == ALL


def test_members_share_all_partitions_while_they_live(log: KafkaLog, backend: KafkaBackend) -> None:
    topics = ["plain", "one"]
    with member_of(backend.opener, topics) as first:
        until(lambda: first.has() == ALL)
        with member_of(backend.opener, topics) as second:
            until(lambda: shared_exactly(first, second))
            # Who stands still loses its partitions, and learns it.
            os.kill(second.pid, signal.SIGSTOP)
            until(lambda: first.has() == ALL)
            os.kill(second.pid, signal.SIGCONT)
            until(lambda: shared_exactly(first, second))
            os.kill(second.pid, signal.SIGKILL)
            until(lambda: first.has() == ALL)


def test_who_leaves_is_replaced_at_once(log: KafkaLog) -> None:
    first = log.join("workers", ["plain", "one"])
    second = log.join("workers", ["plain", "one"])
    assert first.shared
    had = [first.poll(0.1), second.poll(0.1)]

    def settled() -> bool:
        had[:] = [first.poll(0.1), second.poll(0.1)]
        return all(had) and had[0] | had[1] == ALL and not had[0] & had[1]

    until(settled)
    first.close()
    until(lambda: second.poll(0.1) == ALL)
    second.close()


NEVER_LATE = {"session.timeout.ms": 300_000, "max.poll.interval.ms": 600_000, "heartbeat.interval.ms": 1_000}


def test_a_member_that_has_no_turn_joins_anew_and_disturbs_nobody(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever else the machine does: nobody is taken for dead.
    member = configs.member
    monkeypatch.setattr(configs, "member", lambda *of: {**member(*of), **NEVER_LATE})
    monkeypatch.setattr(membership, "_ALONE_S", 0.5)
    first = log.join("workers", ["one"])
    until(lambda: first.poll() == {("one", 0)})
    monkeypatch.setattr(membership, "_ALONE_S_MAX", 5.0)
    second = log.join("workers", ["one"])
    assert isinstance(second, KafkaMembership)
    was, turns = second._consumer, set()

    def anew() -> bool:
        turns.add(first.poll())
        return second.poll() == frozenset() and second._consumer is not was

    until(anew)
    assert turns == {frozenset({("one", 0)})}
    first.close()
    # As the one that it is now, it comes into the group.
    until(lambda: second.poll() == {("one", 0)})
    second.close()

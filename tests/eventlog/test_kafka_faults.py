"""A broker that is killed, away, restored from an older state; topics that somebody deletes."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient  # what an operator's tools do

from annals.eventlog.api import Append
from annals.eventlog.errors import (
    AppendFailed,
    LogNotInitialised,
    LogUnavailable,
    PositionBeyondEnd,
    RecordsGone,
    TopicReplaced,
    TopicsDiffer,
    UnknownTopic,
)
from annals.eventlog.kafka import KafkaLog, KafkaSettings, initialise, open_kafka
from annals.eventlog.kafka.administration import Administration
from annals.schemas.topics import TopicSpec
from tests.support.kafka.broker import KafkaBroker
from tests.support.kafka.shared import KafkaAddress
from tests.support.kafka_topics import alter
from tests.support.log_contract import WAIT_S, eventually, everything, put

SPECS = [TopicSpec("one", 1), TopicSpec("plain", 4), TopicSpec("latest", 1, compacted=True)]


def quick(bootstrap: str, namespace: str) -> KafkaSettings:
    return KafkaSettings(bootstrap, namespace, append_timeout_ms=2000, request_timeout_ms=2000)


@pytest.fixture
def settings(kafka: KafkaAddress, kafka_namespace: str) -> KafkaSettings:
    return quick(kafka.bootstrap, kafka_namespace)


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    initialise(settings, SPECS)
    log = open_kafka(settings)
    yield log
    log.close()


@pytest.fixture
def own_settings(own_kafka: KafkaBroker) -> KafkaSettings:
    return quick(own_kafka.bootstrap, "annals")


def in_time(call: Callable[[], Any]) -> Any:
    """By its own bounds, not by the test's: five times what the settings allow."""
    begun = time.monotonic()
    try:
        return call()
    finally:
        assert time.monotonic() - begun < WAIT_S


def values(log: KafkaLog, topic: str = "one") -> list[bytes | None]:
    return [record.value for record in everything(log, topic, 0)]


# -- making a log


def test_a_log_is_made_once(settings: KafkaSettings) -> None:
    with pytest.raises(LogNotInitialised, match="annals log init"):
        open_kafka(settings)
    log_id = initialise(settings, SPECS)
    assert initialise(settings, SPECS) == log_id == initialise(settings, SPECS, log_id)
    with pytest.raises(TopicsDiffer, match=log_id):
        initialise(settings, SPECS, "another")
    log = open_kafka(settings)
    assert log.log_id == log_id
    log.close()


def test_a_copy_has_the_id_of_its_source(settings: KafkaSettings) -> None:
    assert initialise(settings, SPECS, "of the source") == "of the source" == initialise(settings, SPECS)


def test_a_topic_that_is_not_as_it_must_be_is_told_whole(log: KafkaLog, settings: KafkaSettings) -> None:
    alter(settings, "one", {"retention.ms": "1000", "min.insync.replicas": "3"})
    alter(settings, "latest", {"max.message.bytes": "1000", "max.compaction.lag.ms": "60000"})
    with pytest.raises(TopicsDiffer) as error:
        log.check_topics(SPECS)
    differences = [
        "one has retention.ms 1000, should be -1",
        "latest has max.message.bytes 1000, should be 1048576",
        "latest has max.compaction.lag.ms 60000, should be 86400000",
    ]
    assert error.value.differences == differences
    with pytest.raises(TopicsDiffer) as error:
        log.ensure_topics([*SPECS, TopicSpec("new", 1)])
    assert error.value.differences == differences[1:]  # a longer age it would set by itself
    with pytest.raises(UnknownTopic):
        log.partitions("new")


# -- appends that fail


def test_no_record_of_a_call_passes_one_that_failed(log: KafkaLog, settings: KafkaSettings) -> None:
    put(log, "one", 0, b"first")
    alter(settings, "one", {"max.message.bytes": "2000"})
    eventually(lambda: _refused(log))
    before = len(values(log))
    futures = []
    for call in range(30):
        sizes = (10, 50_000 if call == 10 else 10, 10)
        futures.append(
            log.append([Append("one", 0, b"%d" % call, b"%d " % n + b"." * size) for n, size in enumerate(sizes)])
        )
    failed = {call for call, future in enumerate(futures) if isinstance(future.exception(WAIT_S), AppendFailed)}
    assert 10 in failed
    held: dict[int, list[int]] = {}
    for record in everything(log, "one", 0)[before:]:
        held.setdefault(int(record.key), []).append(int((record.value or b"").split()[0]))
    for call in range(30):
        found = held.get(call, [])
        assert found == list(range(len(found)))  # a beginning of the call
        assert call in failed or found == [0, 1, 2]
    eventually(lambda: log.append([Append("one", 0, b"99", b"0 after")]).exception(WAIT_S) is None)


def _refused(log: KafkaLog) -> bool:
    return log.append([Append("one", 0, b"x", b"." * 50_000)]).exception(WAIT_S) is not None


def test_an_append_that_nobody_acknowledges_fails_in_time(own_kafka: KafkaBroker, own_settings: KafkaSettings) -> None:
    initialise(own_settings, SPECS)
    log = open_kafka(own_settings)
    put(log, "one", 0, b"first")
    own_kafka.pause()
    futures = [log.append([Append("one", 0, b"k", b"late")] * 3) for _ in range(10)]
    failures = in_time(lambda: [future.exception(WAIT_S) for future in futures])
    assert {type(failure) for failure in failures} == {AppendFailed}
    own_kafka.resume()
    eventually(lambda: log.append([Append("one", 0, b"k", b"after")]).exception(WAIT_S) is None)
    # The broker may have had the first of them in its socket.
    held = values(log)
    assert held[0] == b"first"
    assert held[-1] == b"after"
    log.close()


# -- a broker that goes and comes


def test_all_recovers_when_the_broker_is_back(own_kafka: KafkaBroker, own_settings: KafkaSettings) -> None:
    initialise(own_settings, SPECS)
    log = open_kafka(own_settings)
    assert put(log, "one", 0, b"a") == [0]
    tail = log.tail({("one", 0): 0})
    assert [record.value for record in tail.poll(WAIT_S)] == [b"a"]
    own_kafka.kill()
    with pytest.raises(AppendFailed):
        in_time(lambda: put(log, "one", 0, b"lost"))
    for ask in (lambda: log.end("one", 0), lambda: log.read("one", 0, 1), lambda: open_kafka(own_settings)):
        with pytest.raises(LogUnavailable):
            in_time(ask)
    assert tail.poll(0.1) == []
    own_kafka.start()
    eventually(lambda: log.append([Append("one", 0, b"k", b"b")]).exception(WAIT_S) is None)
    assert [record.value for record in tail.poll(WAIT_S)] == [b"b"]
    assert values(log) == [b"a", b"b"]
    log.close()


def test_a_killed_broker_loses_nothing_acknowledged(own_kafka: KafkaBroker, own_settings: KafkaSettings) -> None:
    initialise(own_settings, SPECS)
    log = open_kafka(own_settings)
    stop = threading.Event()
    acknowledged: dict[int, bytes] = {}
    followed: list[tuple[int, bytes | None]] = []

    def write() -> None:
        n = 0
        while not stop.is_set():
            futures = [(b"%d" % (n + i), log.append([Append("one", 0, b"k", b"%d" % (n + i))])) for i in range(20)]
            n += 20
            for value, future in futures:
                if future.exception(WAIT_S) is None:
                    acknowledged[future.result()[0]] = value

    def follow() -> None:
        tail = log.tail({("one", 0): 0})
        while not stop.is_set() or tail.positions["one", 0] < log.end("one", 0):
            followed.extend((record.offset, record.value) for record in tail.poll(0.2))
        tail.close()

    threads = [threading.Thread(target=run) for run in (write, follow)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        before = len(acknowledged)
        eventually(lambda: len(acknowledged) > before + 200)  # noqa: B023
        own_kafka.kill()
        own_kafka.start()
    before = len(acknowledged)
    eventually(lambda: len(acknowledged) > before + 200)
    stop.set()
    for thread in threads:
        thread.join(2 * WAIT_S)
        assert not thread.is_alive()
    held = {record.offset: record.value for record in everything(log, "one", 0)}
    assert acknowledged.items() <= held.items()
    assert followed == list(held.items())
    log.close()


# -- a log that is not what it was


def test_a_broker_restored_from_an_older_state_is_noticed(
    own_kafka: KafkaBroker, own_settings: KafkaSettings, tmp_path: Path
) -> None:
    initialise(own_settings, SPECS)
    log = open_kafka(own_settings)
    put(log, "one", 0, b"a")
    own_kafka.stop()
    shutil.copytree(own_kafka.data, tmp_path / "older")
    own_kafka.start()
    eventually(lambda: log.append([Append("one", 0, b"k", b"b")]).exception(WAIT_S) is None)
    tail = log.tail({("one", 0): 0})
    while tail.positions["one", 0] < log.end("one", 0):
        tail.poll(WAIT_S)
    end = tail.positions["one", 0]
    assert end >= 2
    own_kafka.stop()
    shutil.rmtree(own_kafka.data)
    shutil.copytree(tmp_path / "older", own_kafka.data)
    own_kafka.start()
    with pytest.raises(PositionBeyondEnd):
        in_time(lambda: _until_it_raises(lambda: tail.poll(0.5)))
    with pytest.raises(PositionBeyondEnd):
        log.read("one", 0, end)
    with pytest.raises(PositionBeyondEnd):
        log.tail({("one", 0): end})
    log.close()


def _until_it_raises(call: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_S - 5
    while time.monotonic() < deadline:
        assert call() == []


def _admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.bootstrap})


def test_a_topic_made_anew_is_noticed_however_long_it_is(log: KafkaLog, settings: KafkaSettings) -> None:
    put(log, "one", 0, b"a", b"b")
    tail = log.tail({("one", 0): 0})
    assert len(tail.poll(WAIT_S)) == 2
    full_name = settings.topic("one")
    admin = _admin(settings)
    admin.delete_topics([full_name])[full_name].result(WAIT_S)
    eventually(lambda: not Administration(settings).ids(["one"]))
    other = open_kafka(settings)
    other.ensure_topics(SPECS)
    with pytest.raises((TopicReplaced, UnknownTopic, PositionBeyondEnd)):
        in_time(lambda: _until_it_raises(lambda: tail.poll(0.5)))
    eventually(lambda: _replaced(lambda: log.end("one", 0)))
    put(other, "one", 0, b"not", b"the", b"same", b"log")
    other.close()
    assert _replaced(lambda: log.read("one", 0, 2))
    assert _replaced(lambda: tail.poll(0))
    assert _replaced(lambda: log.append([Append("one", 0, b"k", b"v")]))


def _replaced(call: Callable[[], Any]) -> bool:
    try:
        call()
    except TopicReplaced:
        return True
    return False


def test_records_that_are_gone_from_a_topic_kept_for_ever_are_not_skipped(
    log: KafkaLog, settings: KafkaSettings
) -> None:
    put(log, "one", 0, *[b"%d" % n for n in range(10)])
    place = Place(settings.topic("one"), 0, 5)
    admin = _admin(settings)
    admin.delete_records([place])[place].result(WAIT_S)
    with pytest.raises(RecordsGone):
        log.read("one", 0, 0)
    tail = log.tail({("one", 0): 0})
    for _ in range(2):
        with pytest.raises(RecordsGone):
            tail.poll(WAIT_S)
    tail.seek("one", 0, 5)
    assert [record.offset for record in tail.poll(WAIT_S)] == [5, 6, 7, 8, 9]
    assert [record.offset for record in log.read("one", 0, 5)] == [5, 6, 7, 8, 9]

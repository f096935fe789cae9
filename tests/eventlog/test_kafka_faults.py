"""A broker that is killed, away, restored from an older state; topics that somebody deletes."""

from __future__ import annotations

import dataclasses
import logging
import os
import resource
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # what an operator's tools do

from annals.eventlog.api import Append, TopicPartition
from annals.eventlog.errors import (
    AppendFailed,
    LogClosed,
    LogNotInitialised,
    LogUnavailable,
    LogWentBack,
    PositionBeyondEnd,
    RecordsGone,
    TopicReplaced,
    TopicsDiffer,
    UnknownTopic,
)
from annals.eventlog.kafka import KafkaLog, KafkaSettings, client_log, initialise, open_kafka
from annals.eventlog.kafka import topics as wanted
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.appender import Appender
from annals.eventlog.limits import Limits
from annals.schemas.topics import TopicSpec
from tests.support.kafka.broker import KafkaBroker
from tests.support.kafka.shared import KafkaAddress
from tests.support.kafka_topics import alter
from tests.support.log_contract import WAIT_S, eventually, everything, put, real_ms

SPECS = [TopicSpec("one", 1), TopicSpec("plain", 4), TopicSpec("latest", 1, compacted=True)]


def quick(bootstrap: str, namespace: str) -> KafkaSettings:
    return KafkaSettings(bootstrap, namespace, append_timeout_ms=2000, request_timeout_ms=2000)


def make_topics(settings: KafkaSettings) -> None:
    """Make the topics; a broker that has just come back has its time for it."""
    initialise(dataclasses.replace(settings, request_timeout_ms=60_000), SPECS)


def opened(settings: KafkaSettings) -> KafkaLog:
    """A log whose way to the broker stands: the first append waits for the producer's number besides."""
    log = open_kafka(settings)
    eventually(lambda: log.append([Append("plain", 3, b"first", b"")]).exception(WAIT_S) is None)
    return log


@pytest.fixture
def settings(kafka: KafkaAddress, kafka_namespace: str) -> KafkaSettings:
    return quick(kafka.bootstrap, kafka_namespace)


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    make_topics(settings)
    log = open_kafka(settings)
    yield log
    log.close()


@pytest.fixture
def own_settings(own_kafka: KafkaBroker) -> KafkaSettings:
    return quick(own_kafka.bootstrap, "annals")


@pytest.fixture(scope="module")
def broker_of_many_lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("mortal")) as broker:
        yield broker


@pytest.fixture
def mortal_kafka(broker_of_many_lives: KafkaBroker) -> Iterator[KafkaBroker]:
    """A broker that a test may kill, stop, pause and set back. The next one has it too, in a namespace of its own."""
    if not broker_of_many_lives.running:
        broker_of_many_lives.start()
    yield broker_of_many_lives
    if broker_of_many_lives.running:
        broker_of_many_lives.resume()


@pytest.fixture
def mortal_settings(mortal_kafka: KafkaBroker) -> KafkaSettings:
    return quick(mortal_kafka.bootstrap, f"t{uuid.uuid4().hex[:12]}")


def in_time(call: Callable[[], Any]) -> Any:
    """By its own bounds, not by the test's: five times what the settings allow."""
    begun = time.monotonic()
    try:
        return call()
    finally:
        assert time.monotonic() - begun < WAIT_S


def values(log: KafkaLog, topic: str = "one") -> list[bytes | None]:
    return [record.value for record in everything(log, topic, 0)]


def not_in(held: Mapping[int, bytes | None], acknowledged: Mapping[int, bytes]) -> dict[int, bytes]:
    """What was acknowledged and does not stand there."""
    return {offset: value for offset, value in acknowledged.items() if held.get(offset) != value}


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


def test_an_append_that_nobody_acknowledges_fails_in_time(
    mortal_kafka: KafkaBroker, mortal_settings: KafkaSettings
) -> None:
    make_topics(mortal_settings)
    log = opened(mortal_settings)
    put(log, "one", 0, b"first")
    mortal_kafka.pause()
    futures = [log.append([Append("one", 0, b"k", b"late")] * 3) for _ in range(10)]
    failures = in_time(lambda: [future.exception(WAIT_S) for future in futures])
    assert {type(failure) for failure in failures} == {AppendFailed}
    mortal_kafka.resume()
    eventually(lambda: log.append([Append("one", 0, b"k", b"after")]).exception(WAIT_S) is None)
    # The broker may have had the first of them in its socket.
    held = values(log)
    assert held[0] == b"first"
    assert held[-1] == b"after"
    log.close()


# -- a broker that goes and comes


def test_all_recovers_when_the_broker_is_back(mortal_kafka: KafkaBroker, mortal_settings: KafkaSettings) -> None:
    make_topics(mortal_settings)
    log = opened(mortal_settings)
    assert put(log, "one", 0, b"a") == [0]
    tail = log.tail({("one", 0): 0})
    assert [record.value for record in tail.poll(WAIT_S)] == [b"a"]
    mortal_kafka.kill()
    with pytest.raises(AppendFailed):
        in_time(lambda: put(log, "one", 0, b"lost"))
    for ask in (lambda: log.end("one", 0), lambda: log.read("one", 0, 1), lambda: open_kafka(mortal_settings)):
        with pytest.raises(LogUnavailable):
            in_time(ask)
    assert tail.poll(0.1) == []
    mortal_kafka.start()
    eventually(lambda: log.append([Append("one", 0, b"k", b"b")]).exception(WAIT_S) is None)
    assert [record.value for record in tail.poll(WAIT_S)] == [b"b"]
    assert values(log) == [b"a", b"b"]
    log.close()


def test_a_killed_broker_loses_nothing_acknowledged(mortal_kafka: KafkaBroker, mortal_settings: KafkaSettings) -> None:
    make_topics(mortal_settings)
    log = opened(mortal_settings)
    stop = threading.Event()
    acknowledged: dict[int, bytes] = {}
    followed: list[tuple[int, bytes | None]] = []

    def write() -> int:
        n = 0
        while not stop.is_set():
            futures = [(b"%d" % (n + i), log.append([Append("one", 0, b"k", b"%d" % (n + i))])) for i in range(20)]
            n += 20
            for value, future in futures:
                if future.exception(WAIT_S) is None:
                    acknowledged[future.result()[0]] = value
        return max(acknowledged)

    def follow(last: Future[int]) -> None:
        tail = log.tail({("one", 0): 0})
        # Where the log ends is known when nothing more is on its way.
        while not last.done() or tail.positions["one", 0] <= last.result():
            followed.extend((record.offset, record.value) for record in tail.poll(0.2))
        tail.close()

    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(write)
        following = pool.submit(follow, writing)
        try:
            for _ in range(2):
                before = len(acknowledged)
                eventually(lambda: len(acknowledged) > before + 200)  # noqa: B023
                mortal_kafka.kill()
                mortal_kafka.start()
            before = len(acknowledged)
            eventually(lambda: len(acknowledged) > before + 200)
        finally:
            stop.set()
        following.result(2 * WAIT_S)
    held = {record.offset: record.value for record in everything(log, "one", 0)}
    assert not_in(held, acknowledged) == {} == not_in(dict(followed), acknowledged)
    # What nobody acknowledged may have come to stand behind what was awaited.
    assert followed == list(held.items())[: len(followed)]
    log.close()


# -- a log that is not what it was


def test_a_broker_restored_from_an_older_state_is_noticed(
    mortal_kafka: KafkaBroker, mortal_settings: KafkaSettings, tmp_path: Path
) -> None:
    make_topics(mortal_settings)
    log = opened(mortal_settings)
    put(log, "one", 0, b"a")
    mortal_kafka.stop()
    shutil.copytree(mortal_kafka.data, tmp_path / "older")
    mortal_kafka.start()
    eventually(lambda: log.append([Append("one", 0, b"k", b"b")]).exception(WAIT_S) is None)
    tail = log.tail({("one", 0): 0})
    while tail.positions["one", 0] < log.end("one", 0):
        tail.poll(WAIT_S)
    end = tail.positions["one", 0]
    assert end >= 2
    mortal_kafka.stop()
    shutil.rmtree(mortal_kafka.data)
    shutil.copytree(tmp_path / "older", mortal_kafka.data)
    mortal_kafka.start()
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


def test_a_broker_that_was_restored_and_has_grown_again_is_noticed(
    mortal_kafka: KafkaBroker, mortal_settings: KafkaSettings, tmp_path: Path
) -> None:
    make_topics(mortal_settings)
    log = opened(mortal_settings)
    put(log, "one", 0, b"a")
    mortal_kafka.stop()
    elsewhere = KafkaBroker(tmp_path / "elsewhere")
    shutil.copytree(mortal_kafka.data, elsewhere.data)
    mortal_kafka.start()
    eventually(lambda: log.append([Append("one", 0, b"k", b"b")]).exception(WAIT_S) is None)
    tail = log.tail({("one", 0): 0})
    while tail.positions["one", 0] < log.end("one", 0):
        tail.poll(WAIT_S)
    mortal_kafka.stop()
    # Nobody can have seen that its end was lower.
    with elsewhere:
        other = open_kafka(dataclasses.replace(mortal_settings, bootstrap=elsewhere.bootstrap))
        put(other, "one", 0, *[b"another %d" % n for n in range(tail.positions["one", 0] + 3)])
        other.close()
        elsewhere.stop()
    shutil.rmtree(mortal_kafka.data)
    shutil.move(elsewhere.data, mortal_kafka.data)
    mortal_kafka.start()
    for _ in range(2):
        with pytest.raises(LogWentBack):
            in_time(lambda: _until_it_raises(lambda: tail.poll(0.5)))
    log.close()


def test_an_append_to_a_log_that_went_back_is_not_acknowledged(log: KafkaLog, settings: KafkaSettings) -> None:
    put(log, "one", 0, b"a", b"b", b"c")
    log.close()
    lines: list[tuple[TopicPartition, int]] = []
    appender = Appender(settings, real_ms, Limits(), lambda which, offset: lines.append((which, offset)))
    assert appender.submit([Append("one", 0, b"k", b"d")], 2).result(WAIT_S) == [3]
    _make_anew(settings, "one", [b"x"])
    future = appender.submit([Append("one", 0, b"k", b"e")], 2)
    with pytest.raises(AppendFailed):
        future.result(WAIT_S)
    assert lines == [(("one", 0), 3)]
    appender.close()


def _admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.bootstrap})


def _make_anew(settings: KafkaSettings, topic: str, values: list[bytes]) -> None:
    """As an operator's tools would, and as fast as can be."""
    name, admin = settings.topic(topic), _admin(settings)
    configs = {"cleanup.policy": "delete", "retention.ms": "-1"}
    admin.delete_topics([name])[name].result(WAIT_S)

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(name, 1, 1, config=configs)])[name].result(WAIT_S)
        except KafkaException:
            return False
        return True

    eventually(made)
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    for value in values:
        producer.produce(name, value, partition=0)
    assert producer.flush(WAIT_S) == 0


def test_nothing_of_a_topic_made_anew_is_given_to_a_reader(log: KafkaLog, settings: KafkaSettings) -> None:
    put(log, "one", 0, b"a", b"b", b"c")
    tail = log.tail({("one", 0): 0})
    assert len(tail.poll(WAIT_S)) == 3
    assert [record.value for record in log.read("one", 0, 1)] == [b"b", b"c"]  # its consumer stays
    given: list[bytes | None] = []

    def follow() -> None:
        while True:
            given.extend(record.value for record in tail.poll(WAIT_S))

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        _make_anew(settings, "one", [b"not", b"the", b"same", b"log", b"at", b"all"])
        with pytest.raises(TopicReplaced):  # whether the watch has looked by now, or not
            log.read("one", 0, 1)
        assert isinstance(following.exception(WAIT_S), TopicReplaced)
    assert given == []
    assert _replaced(lambda: tail.poll(0))
    eventually(lambda: _replaced(lambda: log.end("one", 0)))
    assert _replaced(lambda: log.append([Append("one", 0, b"k", b"v")]))


def test_a_fetcher_knows_by_itself_which_topic_it_reads(log: KafkaLog, settings: KafkaSettings) -> None:
    """Not by the look that comes every second: a tail and a reader whose process looks no more."""
    put(log, "one", 0, b"a", b"b", b"c")
    tail = log.tail({("one", 0): 0})
    assert len(tail.poll(WAIT_S)) == 3
    log._watch.close()
    _make_anew(settings, "one", [b"not", b"the", b"same", b"log", b"at", b"all"])
    with pytest.raises(TopicReplaced):
        tail.poll(WAIT_S)


@pytest.mark.parametrize("by_tail", [True, False])
def test_a_topic_made_anew_that_is_empty_is_no_log_that_lost_records(
    log: KafkaLog, settings: KafkaSettings, by_tail: bool
) -> None:
    put(log, "one", 0, b"a", b"b", b"c")
    tail = log.tail({("one", 0): 3})
    log._watch.close()
    _make_anew(settings, "one", [])
    with pytest.raises(TopicReplaced):
        if by_tail:
            tail.poll(WAIT_S)
        else:
            log.read("one", 0, 3)


def test_what_a_topic_was_is_remembered_while_nobody_runs(log: KafkaLog, settings: KafkaSettings) -> None:
    put(log, "one", 0, b"a")
    log.close()
    was = Administration(settings).ids(["one"])["one"]
    _make_anew(settings, "one", [b"x", b"y"])
    anew = f"one was made anew (id {Administration(settings).ids(['one'])['one']}, was {was})"
    again = open_kafka(settings)
    for use in (again.check_topics, again.ensure_topics, lambda specs: initialise(settings, specs)):
        with pytest.raises(TopicsDiffer) as error:
            use(SPECS)
        assert anew in error.value.differences
    assert _replaced(lambda: again.read("one", 0, 0))
    assert _replaced(lambda: again.append([Append("one", 0, b"k", b"v")]))
    assert _replaced(lambda: again.tail({("one", 0): 1}))
    put(again, "plain", 0, b"others go on")
    again.close()


def test_a_topic_that_is_made_later_is_remembered_too(log: KafkaLog, settings: KafkaSettings) -> None:
    later = TopicSpec("later", 1)
    log.ensure_topics([later])
    log.close()
    _make_anew(settings, "later", [])
    again = open_kafka(settings)
    with pytest.raises(TopicsDiffer, match="later was made anew"):
        again.check_topics([later])
    again.close()


def test_a_log_that_has_written_down_no_ids_learns_them(settings: KafkaSettings) -> None:
    initialise(settings, [], "of before")
    wanted.ensure(Administration(settings), settings, SPECS, {})
    assert initialise(settings, SPECS) == "of before"
    _make_anew(settings, "one", [])
    log = open_kafka(settings)
    with pytest.raises(TopicsDiffer, match="one was made anew"):
        log.check_topics(SPECS)
    log.close()


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


# -- a process that forks; a full disk; what operators see


def test_a_forked_child_harms_nothing(log: KafkaLog) -> None:
    tail = log.tail({("one", 0): 0})
    put(log, "one", 0, b"a")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for use in (lambda: put(log, "one", 0, b"x"), lambda: log.read("one", 0, 0), lambda: tail.poll(0)):
                with pytest.raises(LogClosed):
                    use()
            tail.close()
            log.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    put(log, "one", 0, b"b")
    got: list[bytes | None] = []
    while len(got) < 2:
        got += [record.value for record in tail.poll(WAIT_S)]
    assert got == values(log) == [b"a", b"b"]


def test_a_full_disk_loses_nothing_acknowledged(own_kafka: KafkaBroker, own_settings: KafkaSettings) -> None:
    make_topics(own_settings)
    log = opened(own_settings)
    acknowledged = {put(log, "one", 0, b"first")[0]: b"first"}
    tail = log.tail({("one", 0): 0})
    # No file of the broker may grow beyond this: its writes fail as on a full disk.
    _, hard = resource.prlimit(own_kafka.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(own_kafka.pid, resource.RLIMIT_FSIZE, (1 << 20, hard))
    failed = 0
    while failed < 2:
        value = b"%d " % len(acknowledged) + b"." * 100_000
        try:
            acknowledged[in_time(lambda: put(log, "one", 0, value))[0]] = value  # noqa: B023
        except AppendFailed:
            failed += 1
        assert len(acknowledged) < 50, "its disk never was full"
    own_kafka.kill()
    own_kafka.start()
    eventually(lambda: log.append([Append("one", 0, b"k", b"after")]).exception(WAIT_S) is None)
    held = {record.offset: record.value for record in everything(log, "one", 0)}
    assert not_in(held, acknowledged) == {}
    followed: list[tuple[int, bytes | None]] = []
    while tail.positions["one", 0] < log.end("one", 0):
        followed += [(record.offset, record.value) for record in tail.poll(WAIT_S)]
    assert followed == list(held.items())
    log.close()


def test_an_operator_hears_nothing_of_a_start(
    own_kafka: KafkaBroker, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Of a broker, too, that has given out no producer ids before."""
    settings = quick(own_kafka.bootstrap, "quiet")
    with caplog.at_level(logging.INFO):
        make_topics(settings)
        log = open_kafka(settings)
        put(log, "one", 0, b"a")
        assert values(log) == [b"a"]
        log.close()
    assert [record.getMessage() for record in caplog.records] == []
    assert "rdkafka" not in capfd.readouterr().err


def test_what_goes_wrong_is_heard_but_not_all_the_time(
    mortal_kafka: KafkaBroker, mortal_settings: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    make_topics(mortal_settings)
    log = opened(mortal_settings)
    tail = log.tail({("one", 0): 0})
    client_log._said_at.clear()
    mortal_kafka.kill()
    eventually(lambda: any("FAIL" in record.getMessage() for record in caplog.records))
    time.sleep(1)
    assert sum("FAIL" in record.getMessage() for record in caplog.records) == 1
    assert {record.name for record in caplog.records} == {"annals.eventlog.kafka"}
    tail.close()
    log.close()

"""A broker that is killed, away, full, restored from an older state.

What must fail while it is away is asked of a log that is hasty; what must succeed, of one that is patient.
"""

from __future__ import annotations

import logging
import resource
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from annals.eventlog.api import Append, Tail
from annals.eventlog.errors import AppendFailed, LogUnavailable, LogWentBack, PositionBeyondEnd
from annals.eventlog.kafka import KafkaSettings, client_log, open_kafka
from tests.support.kafka.broker import KafkaBroker
from tests.support.kafka_logs import append_in_the_end, hasty, make_topics, opened, patient, values
from tests.support.log_contract import everything, put
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until


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
def namespace() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def waiting(mortal_kafka: KafkaBroker, namespace: str) -> KafkaSettings:
    """For logs that wait; the topics are there."""
    settings = patient(mortal_kafka.bootstrap, namespace)
    make_topics(settings)
    return settings


@pytest.fixture
def hasting(waiting: KafkaSettings) -> KafkaSettings:
    """For logs that wait for two seconds, on the same topics."""
    return hasty(waiting.bootstrap, waiting.namespace)


def not_in(held: Mapping[int, bytes | None], acknowledged: Mapping[int, bytes]) -> dict[int, bytes]:
    """What was acknowledged and does not stand there."""
    return {offset: value for offset, value in acknowledged.items() if held.get(offset) != value}


def test_an_operator_hears_nothing_of_a_start(
    mortal_kafka: KafkaBroker, namespace: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The first one here: of a broker, too, that has given out no producer ids before."""
    settings = patient(mortal_kafka.bootstrap, namespace)
    with caplog.at_level(logging.INFO):
        make_topics(settings)
        log = open_kafka(settings)
        put(log, "one", 0, b"a")
        assert values(log) == [b"a"]
        log.close()
    assert [record.getMessage() for record in caplog.records] == []
    assert "rdkafka" not in capfd.readouterr().err


# -- a broker that goes and comes


def test_an_append_that_nobody_acknowledges_fails_in_time(
    mortal_kafka: KafkaBroker, waiting: KafkaSettings, hasting: KafkaSettings
) -> None:
    log = opened(hasting)
    append_in_the_end(log, "one", 0, b"first")
    mortal_kafka.pause()
    futures = [log.append([Append("one", 0, b"k", b"late")] * 3) for _ in range(10)]
    # By its own bounds, not by ours.
    assert {type(future.exception(PATIENCE_S)) for future in futures} == {AppendFailed}
    mortal_kafka.resume()
    append_in_the_end(log, "one", 0, b"after")
    log.close()
    # The broker may have had the first of them in its socket.
    reading = open_kafka(waiting)
    held = values(reading)
    assert held[0] == b"first"
    assert held[-1] == b"after"
    reading.close()


def test_all_recovers_when_the_broker_is_back(
    mortal_kafka: KafkaBroker, waiting: KafkaSettings, hasting: KafkaSettings
) -> None:
    log, hurried = opened(waiting), opened(hasting)
    assert put(log, "one", 0, b"a") == [0]
    tail = hurried.tail({("one", 0): 0})
    assert [record.value for record in until_it_gives(tail)] == [b"a"]
    mortal_kafka.kill()
    with pytest.raises(AppendFailed):
        put(hurried, "one", 0, b"lost")
    for ask in (lambda: hurried.end("one", 0), lambda: hurried.read("one", 0, 1), lambda: open_kafka(hasting)):
        with pytest.raises(LogUnavailable):
            ask()
    assert tail.poll(0.1) == []
    mortal_kafka.start()
    # Not with what failed in between, and each of them by itself.
    assert put(log, "one", 0, b"b") == [1]
    assert [record.value for record in until_it_gives(tail)] == [b"b"]
    append_in_the_end(hurried, "plain", 0, b"c")
    assert values(log) == [b"a", b"b"]
    hurried.close()
    log.close()


def until_it_gives(tail: Tail) -> list[Any]:
    """The next records. Of a hurried tail, which may find the broker slow: it goes on when it is polled again."""
    given: list[Any] = []

    def gave() -> bool:
        try:
            given.extend(tail.poll(1.0))
        except LogUnavailable:
            return False
        return bool(given)

    until(gave)
    return given


def test_a_killed_broker_loses_nothing_acknowledged(mortal_kafka: KafkaBroker, waiting: KafkaSettings) -> None:
    log = opened(waiting)
    hurried = opened(hasty(waiting.bootstrap, waiting.namespace))
    stop = threading.Event()
    acknowledged: dict[int, bytes] = {}
    followed: list[tuple[int, bytes | None]] = []

    def write() -> int:
        n = 0
        while not stop.is_set():
            futures = [(b"%d" % (n + i), hurried.append([Append("one", 0, b"k", b"%d" % (n + i))])) for i in range(20)]
            n += 20
            for value, future in futures:
                if future.exception(PATIENCE_S) is None:
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
            until(lambda: len(acknowledged) > 200)
            mortal_kafka.kill()
            mortal_kafka.start()
            before = len(acknowledged)
            until(lambda: len(acknowledged) > before + 200)
        finally:
            stop.set()
        following.result(2 * PATIENCE_S)
    held = {record.offset: record.value for record in everything(log, "one", 0)}
    assert not_in(held, acknowledged) == {} == not_in(dict(followed), acknowledged)
    # What nobody acknowledged may have come to stand behind what was awaited.
    assert followed == list(held.items())[: len(followed)]
    hurried.close()
    log.close()


# -- a log that is not what it was


def test_a_broker_restored_from_an_older_state_is_noticed(
    mortal_kafka: KafkaBroker, waiting: KafkaSettings, tmp_path: Path
) -> None:
    """Where it has less than was read, and where it has grown again since, so that nobody saw that it had less."""
    log = opened(waiting)
    put(log, "one", 0, b"a")
    _copy(mortal_kafka, tmp_path / "older")
    put(log, "one", 0, *[b"another %d" % n for n in range(4)])
    far = log.tail({("one", 0): 0})
    while far.positions["one", 0] < 5:
        far.poll(PATIENCE_S)
    _copy(mortal_kafka, tmp_path / "grown")

    _restore(mortal_kafka, tmp_path / "older")
    _raises_in_the_end(PositionBeyondEnd, far)
    with pytest.raises(PositionBeyondEnd):
        log.read("one", 0, 5)
    with pytest.raises(PositionBeyondEnd):
        log.tail({("one", 0): 5})
    log.close()

    log = opened(waiting)
    assert put(log, "one", 0, b"b") == [1]
    tail = log.tail({("one", 0): 0})
    while tail.positions["one", 0] < 2:
        tail.poll(PATIENCE_S)
    _restore(mortal_kafka, tmp_path / "grown")
    for _ in range(2):
        _raises_in_the_end(LogWentBack, tail)
    log.close()


def _copy(broker: KafkaBroker, folder: Path) -> None:
    """The broker's files as they are now: what a snapshot of its disk holds."""
    broker.pause()
    try:
        shutil.copytree(broker.data, folder)
    finally:
        broker.resume()


def _restore(broker: KafkaBroker, folder: Path) -> None:
    broker.kill()
    shutil.rmtree(broker.data)
    shutil.move(folder, broker.data)
    broker.start()


def _raises_in_the_end(error: type[Exception], tail: Tail) -> None:
    """And gives nothing before."""

    def raised() -> bool:
        try:
            assert tail.poll(0.5) == []
        except error:
            return True
        return False

    until(raised)


def test_a_full_disk_loses_nothing_acknowledged(
    mortal_kafka: KafkaBroker, waiting: KafkaSettings, hasting: KafkaSettings
) -> None:
    log, hurried = opened(waiting), opened(hasting)
    acknowledged = {put(log, "one", 0, b"first")[0]: b"first"}
    tail = log.tail({("one", 0): 0})
    # No file of the broker may grow beyond this: its writes fail as on a full disk.
    _, hard = resource.prlimit(mortal_kafka.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(mortal_kafka.pid, resource.RLIMIT_FSIZE, (1 << 20, hard))
    failed = 0
    while failed < 2:
        value = b"%d " % len(acknowledged) + b"." * 100_000
        try:
            acknowledged[put(hurried, "one", 0, value)[0]] = value
        except AppendFailed:
            failed += 1
        assert len(acknowledged) < 50, "its disk never was full"
    mortal_kafka.kill()
    mortal_kafka.start()
    put(log, "one", 0, b"after")
    held = {record.offset: record.value for record in everything(log, "one", 0)}
    assert not_in(held, acknowledged) == {}
    followed: list[tuple[int, bytes | None]] = []
    while tail.positions["one", 0] < log.end("one", 0):
        followed += [(record.offset, record.value) for record in tail.poll(PATIENCE_S)]
    assert followed == list(held.items())
    hurried.close()
    log.close()


def test_what_goes_wrong_is_heard_but_not_all_the_time(
    mortal_kafka: KafkaBroker,
    waiting: KafkaSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = opened(waiting)
    tail = log.tail({("one", 0): 0})
    monkeypatch.setattr(client_log, "_SAY_EVERY_S", 2 * PATIENCE_S)
    monkeypatch.setattr(client_log, "_said_at", {})
    failures = _counted(monkeypatch, "FAIL")
    mortal_kafka.kill()
    until(lambda: len(failures) > 5)
    assert sum("FAIL" in record.getMessage() for record in caplog.records) == 1
    assert {record.name for record in caplog.records} == {"annals.eventlog.kafka"}
    tail.close()
    log.close()


def _counted(monkeypatch: pytest.MonkeyPatch, kind: str) -> list[str]:
    """What the clients say of this kind, heard or not."""
    said: list[str] = []
    worth: Callable[[str], bool] = client_log._worth_saying

    def counted(text: str) -> bool:
        if text.startswith(kind):
            said.append(text)
        return worth(text)

    monkeypatch.setattr(client_log, "_worth_saying", counted)
    return said

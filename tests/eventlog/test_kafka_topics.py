"""A log on a broker that works: how it is made, and what others do to its topics, beside it and beneath it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # what an operator's tools do

from annals.eventlog.api import Append, TopicPartition
from annals.eventlog.errors import (
    AppendFailed,
    LogNotInitialised,
    RecordsGone,
    TopicReplaced,
    TopicsDiffer,
    UnknownTopic,
)
from annals.eventlog.kafka import KafkaLog, KafkaSettings, initialise, open_kafka
from annals.eventlog.kafka import topics as wanted
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.appender import Appender
from annals.eventlog.limits import Limits
from annals.schemas.topics import TopicSpec
from tests.support.kafka.shared import KafkaAddress
from tests.support.kafka_logs import SPECS, append_in_the_end, make_topics, patient, values
from tests.support.kafka_topics import alter
from tests.support.log_contract import everything, put, real_ms
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until


@pytest.fixture
def settings(kafka: KafkaAddress, kafka_namespace: str) -> KafkaSettings:
    return patient(kafka.bootstrap, kafka_namespace)


@pytest.fixture
def log(settings: KafkaSettings) -> Iterator[KafkaLog]:
    make_topics(settings)
    log = open_kafka(settings)
    yield log
    log.close()


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
    until(lambda: _refused(log))
    before = len(values(log))
    futures = []
    for call in range(30):
        sizes = (10, 50_000 if call == 10 else 10, 10)
        futures.append(
            log.append([Append("one", 0, b"%d" % call, b"%d " % n + b"." * size) for n, size in enumerate(sizes)])
        )
    failed = {call for call, future in enumerate(futures) if isinstance(future.exception(PATIENCE_S), AppendFailed)}
    assert 10 in failed
    held: dict[int, list[int]] = {}
    for record in everything(log, "one", 0)[before:]:
        held.setdefault(int(record.key), []).append(int((record.value or b"").split()[0]))
    for call in range(30):
        found = held.get(call, [])
        assert found == list(range(len(found)))  # a beginning of the call
        assert call in failed or found == [0, 1, 2]
    append_in_the_end(log, "one", 0, b"0 after")


def _refused(log: KafkaLog) -> bool:
    return log.append([Append("one", 0, b"x", b"." * 50_000)]).exception(PATIENCE_S) is not None


# -- topics that somebody deletes, makes anew, or empties


def test_an_append_to_a_log_that_went_back_is_not_acknowledged(log: KafkaLog, settings: KafkaSettings) -> None:
    put(log, "one", 0, b"a", b"b", b"c")
    log.close()
    lines: list[tuple[TopicPartition, int]] = []
    appender = Appender(settings, real_ms, Limits(), lambda which, offset: lines.append((which, offset)))
    assert appender.submit([Append("one", 0, b"k", b"d")], 2).result(PATIENCE_S) == [3]
    _make_anew(settings, "one", [b"x"])
    future = appender.submit([Append("one", 0, b"k", b"e")], 2)
    with pytest.raises(AppendFailed):
        future.result(PATIENCE_S)
    assert lines == [(("one", 0), 3)]
    appender.close()


def _admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.bootstrap})


def _make_anew(settings: KafkaSettings, topic: str, values: list[bytes]) -> None:
    """As an operator's tools would, and as fast as can be."""
    name, admin = settings.topic(topic), _admin(settings)
    configs = {"cleanup.policy": "delete", "retention.ms": "-1"}
    admin.delete_topics([name])[name].result(PATIENCE_S)

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(name, 1, 1, config=configs)])[name].result(PATIENCE_S)
        except KafkaException:
            return False
        return True

    until(made)
    producer = Producer({"bootstrap.servers": settings.bootstrap})
    for value in values:
        producer.produce(name, value, partition=0)
    assert producer.flush(PATIENCE_S) == 0
    # Made is not yet there: for a moment the broker knows no such topic.
    administration = Administration(settings)

    def shows() -> bool:
        try:
            return administration.ends([(topic, 0)]) == {(topic, 0): len(values)}
        except UnknownTopic:
            return False

    until(shows)


def test_nothing_of_a_topic_made_anew_is_given_to_a_reader(log: KafkaLog, settings: KafkaSettings) -> None:
    put(log, "one", 0, b"a", b"b", b"c")
    tail = log.tail({("one", 0): 0})
    assert len(tail.poll(PATIENCE_S)) == 3
    assert [record.value for record in log.read("one", 0, 1)] == [b"b", b"c"]  # its consumer stays
    given: list[bytes | None] = []

    def follow() -> None:
        while True:
            given.extend(record.value for record in tail.poll(PATIENCE_S))

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow)
        _make_anew(settings, "one", [b"not", b"the", b"same", b"log", b"at", b"all"])
        with pytest.raises(TopicReplaced):  # whether the watch has looked by now, or not
            log.read("one", 0, 1)
        assert isinstance(following.exception(PATIENCE_S), TopicReplaced)
    assert given == []
    assert _replaced(lambda: tail.poll(0))
    until(lambda: _replaced(lambda: log.end("one", 0)))
    assert _replaced(lambda: log.append([Append("one", 0, b"k", b"v")]))


def test_a_fetcher_knows_by_itself_which_topic_it_reads(log: KafkaLog, settings: KafkaSettings) -> None:
    """Not by the look that comes every second: a tail and a reader whose process looks no more."""
    put(log, "one", 0, b"a", b"b", b"c")
    tail = log.tail({("one", 0): 0})
    assert len(tail.poll(PATIENCE_S)) == 3
    log._watch.close()
    _make_anew(settings, "one", [b"not", b"the", b"same", b"log", b"at", b"all"])
    with pytest.raises(TopicReplaced):
        tail.poll(PATIENCE_S)


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
            tail.poll(PATIENCE_S)
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
    admin.delete_records([place])[place].result(PATIENCE_S)
    with pytest.raises(RecordsGone):
        log.read("one", 0, 0)
    tail = log.tail({("one", 0): 0})
    for _ in range(2):
        with pytest.raises(RecordsGone):
            tail.poll(PATIENCE_S)
    tail.seek("one", 0, 5)
    assert [record.offset for record in tail.poll(PATIENCE_S)] == [5, 6, 7, 8, 9]
    assert [record.offset for record in log.read("one", 0, 5)] == [5, 6, 7, 8, 9]

"""`api.Log` on Apache Kafka."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from annals.eventlog.api import MAX_RECORD_BYTES, Append, Record, TopicPartition
from annals.eventlog.errors import LogClosed, PositionBeyondEnd, RecordTooLarge
from annals.eventlog.kafka import topics as wanted
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.appender import Appender
from annals.eventlog.kafka.catalog import Catalog, Watch
from annals.eventlog.kafka.identity import read_identity, remember
from annals.eventlog.kafka.membership import KafkaMembership
from annals.eventlog.kafka.reader import Readers, Wanted
from annals.eventlog.kafka.settings import KafkaSettings
from annals.eventlog.kafka.tail import KafkaTail
from annals.eventlog.limits import Limits
from annals.schemas.topics import TopicSpec


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def open_kafka(
    settings: KafkaSettings, clock_ms: Callable[[], int] = _wall_clock_ms, limits: Limits | None = None
) -> KafkaLog:
    """Opens the log of a namespace, which `initialise` has made.

    `clock_ms` stamps what is appended, for retention alone. Raises LogNotInitialised, LogUnavailable.
    """
    return KafkaLog(settings, clock_ms, limits or Limits())


def _size_bytes(data: object) -> int:
    # The library would encode a string, and make no key of None.
    if not isinstance(data, bytes):
        raise TypeError(f"key and value of a record are bytes, not {type(data).__name__}")
    return len(data)


class KafkaLog:
    """See `api.Log`. A forked child cannot use it: it opens the log itself."""

    def __init__(self, settings: KafkaSettings, clock_ms: Callable[[], int], limits: Limits) -> None:
        self._settings = settings
        self._administration = Administration(settings)
        identity = read_identity(settings, self._administration)
        self._log_id = identity.log_id
        self._catalog = Catalog(self._administration, identity.topic_ids)
        self._catalog.load()
        self._readers = Readers(settings, self._administration)
        self._written: dict[TopicPartition, int] = {}
        self._appender = Appender(settings, clock_ms, limits, self._note)
        self._tails: weakref.WeakSet[KafkaTail] = weakref.WeakSet()
        self._watch = Watch(self._look)
        self._guard = threading.Lock()
        self._closed = False
        _open_logs.add(self)

    @property
    def log_id(self) -> str:
        return self._log_id

    def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        self._check_open()
        wanted.ensure(self._administration, self._settings, topics, self._catalog.ids)
        self._catalog.load(spec.name for spec in topics)
        remember(self._settings, self._administration, {spec.name: self._catalog.ids[spec.name] for spec in topics})

    def check_topics(self, topics: Sequence[TopicSpec]) -> None:
        self._check_open()
        wanted.check(self._administration, self._settings, topics, self._catalog.ids)

    def partitions(self, topic: str) -> int:
        self._check_open()
        return self._catalog.topic(topic).partitions

    def append(self, records: Sequence[Append]) -> Future[list[int]]:
        self._check_open()
        size_bytes = 0
        for record in records:
            self._catalog.check(record.topic, record.partition)
            size = _size_bytes(record.key) + (0 if record.value is None else _size_bytes(record.value))
            if size > MAX_RECORD_BYTES:
                raise RecordTooLarge(f"{size} bytes for {record.topic}: at most {MAX_RECORD_BYTES}")
            size_bytes += size
        return self._appender.submit(records, size_bytes)

    def append_here(self, records: Sequence[Append]) -> list[int]:
        # The client has threads of its own.
        return self.append(records).result()

    def read(
        self, topic: str, partition: int, offset: int, max_records: int = 1000, max_bytes: int = 8 << 20
    ) -> list[Record]:
        if offset < 0 or max_records < 1:
            raise ValueError(f"read from {offset}, {max_records} records")
        self._check_open()
        known = self._catalog.check(topic, partition)
        which = (topic, partition)
        try:
            return self._readers.read(Wanted(which, offset, max_records, max_bytes, known.whole, known.topic_id))
        except PositionBeyondEnd:
            self._catalog.look_again(topic)
            raise

    def end(self, topic: str, partition: int) -> int:
        self._check_open()
        self._catalog.check(topic, partition)
        return self._administration.ends([(topic, partition)])[topic, partition]

    def ends(self, topic: str) -> list[int]:
        self._check_open()
        which = self._catalog.all_of(topic)
        ends = self._administration.ends(which)
        return [ends[each] for each in which]

    def tail(self, positions: Mapping[TopicPartition, int]) -> KafkaTail:
        self._check_open()
        tail = KafkaTail(self._settings, self._administration, self._catalog, positions, self._written)
        with self._guard:
            self._tails.add(tail)
        return tail

    def join(self, group: str, topics: Sequence[str]) -> KafkaMembership:
        self._check_open()
        for topic in topics:
            self._catalog.topic(topic)
        return KafkaMembership(self._settings, group, topics)

    def wait_for(self, topic: str, partition: int, offset: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        end = self.end(topic, partition)
        if end >= offset:
            return True
        tail = self.tail({(topic, partition): end})
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                tail.poll(left_s)
                if tail.positions[topic, partition] >= offset:
                    return True
            return self.end(topic, partition) >= offset
        finally:
            tail.close()

    def compact(self, topic: str, now_ms: int | None = None) -> int:
        """Nothing: the brokers compact by themselves."""
        self._check_open()
        self._catalog.topic(topic)
        return 0

    def close(self) -> None:
        with self._guard:
            if self._closed:
                return
            self._closed = True
        _open_logs.discard(self)
        self._watch.close()
        self._appender.close()
        tails = list(self._tails)
        for tail in tails:
            tail.close()
        for tail in tails:
            tail.join(5.0)
        self._readers.close()

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosed("the log is closed")

    def _note(self, which: TopicPartition, offset: int) -> None:
        self._written[which] = offset + 1

    def _look(self) -> None:
        """Once a second: whether the topics are those that they were, and none of the tails stands behind an end."""
        with self._guard:
            tails = list(self._tails)
        self._readers.rest()
        if self._catalog.look():
            for tail in tails:
                tail.recheck()
        fetched = [(tail, tail.fetched()) for tail in tails]
        # After the positions: what was fetched lay below the end already.
        ends = self._administration.ends({which for _, positions in fetched for which in positions})
        for tail, positions in fetched:
            tail.look(positions, ends)

    def _abandon(self) -> None:
        """In a forked child: the clients' threads are the parent's."""
        self._closed = True
        self._appender.abandon()
        self._readers.abandon()
        for tail in list(self._tails):
            tail.abandon()
        # The library would wait for threads that this process does not have.
        _left_alone.append(self)


_open_logs: weakref.WeakSet[KafkaLog] = weakref.WeakSet()
_left_alone: list[KafkaLog] = []


def _abandon_all() -> None:
    for log in list(_open_logs):
        log._abandon()
    _open_logs.clear()


os.register_at_fork(after_in_child=_abandon_all)

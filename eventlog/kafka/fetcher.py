"""The thread behind a tail: a consumer, and what it has fetched."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka.failures import error_of, logger, passes, translated
from annals.eventlog.kafka.records import Batch
from annals.eventlog.kafka.settings import KafkaSettings

_WAIT_MS = 500  # how long the broker holds a fetch that finds nothing: a record ends it at once
_QUEUED_KBYTES = 16 << 10
_HELD_RECORDS, _HELD_BYTES = 20_000, 16 << 20
_LOOK_S = 0.2  # only the end of the fetcher waits for it


class Fetcher:
    """Fetches from `positions` on until it is ended or fails. What it shows is read under `changed`, which it notifies.

    `whole`: those of the partitions in which no record may be missing. `arrived` is called when there is something
    where there was nothing.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        positions: Mapping[TopicPartition, int],
        whole: frozenset[TopicPartition],
        changed: threading.Condition,
        arrived: Callable[[], None],
    ) -> None:
        self._settings, self._whole, self._changed, self._arrived = settings, whole, changed, arrived
        self.fetched = dict(positions)  # next one to fetch
        self.held: dict[TopicPartition, deque[Record]] = {which: deque() for which in positions}
        self.failure: tuple[TopicPartition | None, KafkaError] | None = None
        self.lacks: TopicPartition | None = None  # of `whole`, where records are missing
        self._held_records = self._held_bytes = 0
        self._ended = False
        self._names = {settings.topic(topic): topic for topic, _ in positions}
        with translated("cannot use these settings for Kafka"):
            self._consumer = Consumer(configs.consumer(settings, _WAIT_MS, _QUEUED_KBYTES), logger=logger)
            places = [Place(settings.topic(topic), number, offset) for (topic, number), offset in positions.items()]
            self._consumer.assign(places)
        self._thread = threading.Thread(target=self._run, name="log-tail", daemon=True)
        self._thread.start()

    def take(self, which: TopicPartition, max_records: int, max_bytes: int) -> tuple[list[Record], int]:
        """At least one of what is held of a partition, and the bytes. Under `changed`."""
        held, taken, size = self.held[which], list[Record](), 0
        while held and len(taken) < max_records:
            record = held[0]
            size += len(record.key) + len(record.value or b"")
            if taken and size > max_bytes:
                size -= len(record.key) + len(record.value or b"")
                break
            taken.append(held.popleft())
        full = self._full
        self._held_records -= len(taken)
        self._held_bytes -= size
        if full and not self._full:
            self._changed.notify_all()
        return taken, size

    def position(self, which: TopicPartition) -> int:
        """Next one to give. Under `changed`."""
        held = self.held[which]
        return held[0].offset if held else self.fetched[which]

    @property
    def _full(self) -> bool:
        return self._held_records >= _HELD_RECORDS or self._held_bytes >= _HELD_BYTES

    def end(self) -> None:
        """Does not wait for the thread. Under `changed`."""
        self._ended = True
        self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._ended and self.failure is None:
                first = self._consumer.poll(_LOOK_S)
                if first is not None:
                    self._store(Batch([first, *self._consumer.consume(1000, 0)], self._names))
        except KafkaException as error:
            with self._changed:
                self.failure = (None, error_of(error) or KafkaError(KafkaError._FAIL))
                self._ring()
        finally:
            self._consumer.close()

    def _ring(self) -> None:
        self._changed.notify_all()
        self._arrived()

    def _store(self, batch: Batch) -> None:
        with self._changed:
            for which, records in batch.records.items():
                if which in self._whole and records[-1].offset - self.fetched[which] != len(records) - 1:
                    self.lacks = which
                    self.failure = (which, KafkaError(KafkaError._LOG_TRUNCATION))
                    break
                self.held[which].extend(records)
                self.fetched[which] = records[-1].offset + 1
                self._held_records += len(records)
            self._held_bytes += batch.size_bytes
            for which, end in batch.ends.items():
                self.fetched[which] = max(self.fetched[which], end)
            for at, error in batch.errors:
                if not passes(error):
                    self.failure = (at, error)
            self._ring()
            while self._full and not self._ended:
                self._changed.wait()

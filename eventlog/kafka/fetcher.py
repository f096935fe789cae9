"""The thread behind a tail: a consumer, and what it has fetched.

Whatever lies behind a connection may have been restored from an older state, and have grown again since: so at each new
connection it goes back to the last record that it had, and goes on only where it finds it again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka.client_log import ClientLog
from annals.eventlog.kafka.failures import error_of, passes, translated
from annals.eventlog.kafka.records import Batch
from annals.eventlog.kafka.settings import KafkaSettings

_WAIT_MS = 500  # how long the broker holds a fetch that finds nothing: a record ends it at once
_QUEUED_KBYTES = 16 << 10
_HELD_RECORDS, _HELD_BYTES = 20_000, 16 << 20
_LOOK_S = 0.2  # only the end of the fetcher waits for it


class Fetcher:
    """Fetches from `positions` on until it is ended or fails. What it shows is read under `changed`, which it notifies.

    `topic_ids`: by topic; of another incarnation it takes nothing, it ends with `replaced`. `whole`: those of the
    partitions in which no record may be missing. `given`: the last record that a reader has had of a partition, where
    it had one: it must be found again. `arrived` is called when there is something where there was nothing.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        positions: Mapping[TopicPartition, int],
        topic_ids: Mapping[str, str],
        given: Mapping[TopicPartition, Record],
        whole: frozenset[TopicPartition],
        changed: threading.Condition,
        arrived: Callable[[], None],
    ) -> None:
        self._settings, self._topic_ids = settings, topic_ids
        self._whole, self._changed, self._arrived = whole, changed, arrived
        self._said = ClientLog()
        self.fetched = dict(positions)  # next one to fetch
        self.held: dict[TopicPartition, deque[Record]] = {which: deque() for which in positions}
        self.failure: tuple[TopicPartition | None, KafkaError] | None = None
        self.lacks: TopicPartition | None = None  # of `whole`, where records are missing
        self.differs: TopicPartition | None = None  # where another record stands than the last that was had
        self.replaced: str | None = None  # a topic that was made anew
        self.given = dict(given)
        self._last = dict(given)  # the last one fetched
        self._sought = set(given)  # where the last one is to be found again
        self._held_records = self._held_bytes = 0
        self._ended = False
        self._names = {settings.topic(topic): topic for topic, _ in positions}
        with translated("cannot use these settings for Kafka"):
            self._consumer = Consumer(configs.consumer(settings, _WAIT_MS, _QUEUED_KBYTES), logger=self._said)
            self._consumer.assign(self._places())
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
        if taken:
            self.given[which] = taken[-1]
        full = self.full
        self._held_records -= len(taken)
        self._held_bytes -= size
        if full and not self.full:
            self._changed.notify_all()
        return taken, size

    def position(self, which: TopicPartition) -> int:
        """Next one to give. Under `changed`."""
        held = self.held[which]
        return held[0].offset if held else self.fetched[which]

    @property
    def full(self) -> bool:
        return self._held_records >= _HELD_RECORDS or self._held_bytes >= _HELD_BYTES

    def end(self) -> None:
        """Does not wait for the thread. Under `changed`."""
        self._ended = True
        self._changed.notify_all()

    def fail(self, which: TopicPartition, error: KafkaError) -> None:
        """Somebody else knows that it will bring nothing. Under `changed`."""
        self.failure = (which, error)
        self._ring()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _places(self) -> list[Place]:
        """Where to fetch from: the last record that was had, once more, or the position."""
        starts = {which: last.offset for which, last in self._last.items()}
        return [
            Place(self._settings.topic(which[0]), which[1], starts.get(which, position))
            for which, position in self.fetched.items()
        ]

    def _run(self) -> None:
        try:
            while not self._ended and self.failure is None and self.replaced is None:
                first = self._consumer.poll(_LOOK_S)
                messages = [] if first is None else [first, *self._consumer.consume(1000, 0)]
                if self._said.connected_anew:
                    self._said.connected_anew = False
                    if self._last:
                        # These messages may be of the new connection: they come once more.
                        self._sought = set(self._last)
                        self._consumer.assign(self._places())
                        continue
                if messages:
                    self._store(Batch(messages, self._names))
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
                if not self._fits(which, records):
                    break
                if not records:
                    continue
                self.held[which].extend(records)
                self._last[which] = records[-1]
                self.fetched[which] = records[-1].offset + 1
                self._held_records += len(records)
            self._held_bytes += batch.size_bytes
            for which, end in batch.ends.items():
                if end < self.fetched[which] and self.failure is None:
                    self.failure = (which, KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
                self.fetched[which] = max(self.fetched[which], end)
            for at, error in batch.errors:
                if not passes(error):
                    self.failure = (at, error)
            self._ring()
            while self.full and not self._ended:
                self._changed.wait()

    def _fits(self, which: TopicPartition, records: list[Record]) -> bool:
        """Whether these go on from what was fetched; takes off the one that was sought, and found again."""
        said = self._said.ids.get(self._settings.topic(which[0]))
        if said is None:
            # The library words its log in another way.
            self.failure = (which, KafkaError(KafkaError.UNSUPPORTED_VERSION, "nobody says which topic is read"))
            return False
        if said != self._topic_ids[which[0]]:
            self.replaced = which[0]
            return False
        if which in self._sought:
            self._sought.discard(which)
            if records[0] == self._last[which]:
                self._held_bytes -= len(records[0].key) + len(records[0].value or b"")
                del records[0]
            # Compaction or age may have taken it meanwhile; that another one is there they do not bring about.
            if records and records[0].offset < self.fetched[which]:
                self.differs = which
                self.failure = (which, KafkaError(KafkaError._LOG_TRUNCATION))
                return False
        if records and which in self._whole and records[-1].offset - self.fetched[which] != len(records) - 1:
            self.lacks = which
            self.failure = (which, KafkaError(KafkaError._LOG_TRUNCATION))
            return False
        return True

"""Reading from any offset: some consumers that stay where the last read has left them.

A caller that reads on finds the consumer that stands there, with the next records fetched already.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.errors import LogClosed, LogUnavailable, PositionBeyondEnd, RecordsGone, TopicReplaced
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.client_log import ClientLog
from annals.eventlog.kafka.failures import OUT_OF_RANGE, as_log_error, passes, translated
from annals.eventlog.kafka.records import Batch
from annals.eventlog.kafka.settings import KafkaSettings

_IDLE_MAX = 4  # of each kind
_WAIT_MS = 1  # a fetch at the end delays the next task of its consumer by so much
_QUEUED_KBYTES = 8 << 10
_LOOK_S = 0.5
_FEW, _FEW_BYTES = 100, 64 << 10  # who asks for fewer records reads here and there
_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where to read. `whole`: a missing record is an error. `topic_id`: another incarnation of the topic is one too."""

    which: TopicPartition
    offset: int
    max_records: int
    max_bytes: int
    whole: bool
    topic_id: str


def first_kept(administration: Administration, which: TopicPartition, offset: int, whole: bool) -> int:
    """Where to go on after the brokers had nothing at `offset`. Raises PositionBeyondEnd, RecordsGone."""
    topic, partition = which
    end = administration.ends([which])[which]
    if offset > end:
        raise PositionBeyondEnd(topic, partition, offset, end)
    start = administration.starts([which])[which]
    if start <= offset:
        return offset
    if whole:
        raise RecordsGone(f"{topic}[{partition}] is kept for ever but begins at {start}: {offset} is gone")
    return start


class _Reader:
    """One consumer. Used by one thread at a time."""

    def __init__(self, settings: KafkaSettings, few: bool) -> None:
        """`few`: it fetches little, and rests after each read."""
        self._settings, self.few = settings, few
        little: configs.Config = {"fetch.message.max.bytes": _FEW_BYTES} if few else {}
        with translated("cannot use these settings for Kafka"):
            self._said = ClientLog()
            config = {**configs.consumer(settings, _WAIT_MS, _QUEUED_KBYTES), **little}
            self._consumer = Consumer(config, logger=self._said)
        self.at: tuple[TopicPartition, int] | None = None  # of the next record it gives
        self._next = 0  # of the next one it fetches
        self._fetched: deque[Record] = deque()
        self._fetches = False
        self.used_at_s = 0.0

    def read(self, wanted: Wanted, end: int, administration: Administration) -> list[Record]:
        """Up to `end`, which must lie above the offset."""
        deadline = time.monotonic() + self._settings.request_timeout_s
        if self.at != (wanted.which, wanted.offset):
            self._go(wanted.which, wanted.offset)
        records: list[Record] = []
        size = 0
        while len(records) < wanted.max_records:
            if not self._fetched:
                if self._next >= end:
                    break
                self._fetch(wanted, deadline, administration)
                continue
            record = self._fetched[0]
            size += len(record.key) + len(record.value or b"")
            if size > wanted.max_bytes and records:
                break
            records.append(self._fetched.popleft())
        self.at = (wanted.which, self._fetched[0].offset if self._fetched else self._next)
        self.used_at_s = time.monotonic()
        if (not self._fetched and self._next >= end) or self.few:
            self.rest()
        return records

    def _go(self, which: TopicPartition, offset: int) -> None:
        topic, partition = which
        self._fetched.clear()
        self._next, self.at = offset, None
        with translated(f"cannot read {topic}[{partition}]"):
            full_name = self._settings.topic(topic)
            self._consumer.assign([Place(full_name, partition, offset)])
            if full_name not in self._said.ids and self._said.ids:
                # By itself it would ask where a topic is that is new to it when it next looks, within a second.
                self._consumer.list_topics(full_name, timeout=self._settings.request_timeout_s)
        self._fetches = True

    def rest(self) -> None:
        """Fetches no more: at the end it would ask the broker again and again, and its next task would wait for what it
        fetches ahead."""
        if self._fetches:
            self._consumer.unassign()
        self._fetches = False

    def _fetch(self, wanted: Wanted, deadline: float, administration: Administration) -> None:
        which, (topic, partition) = wanted.which, wanted.which
        what = f"cannot read {topic}[{partition}]"
        if not self._fetches:
            self._go(which, self._next)
        with translated(what):
            first = self._consumer.poll(_LOOK_S)
            more = min(wanted.max_records, _FEW) if self.few else 1000
            messages = [] if first is None else [first, *self._consumer.consume(more, 0)]
        batch = Batch(messages, {self._settings.topic(topic): topic})
        for _, error in batch.errors:
            if error.code() in OUT_OF_RANGE:
                self._go(which, first_kept(administration, which, self._next, wanted.whole))
            elif not passes(error):
                raise as_log_error(what, error)
        records = batch.records.get(which, [])
        if records:
            if self._said.ids.get(self._settings.topic(topic)) != wanted.topic_id:
                raise TopicReplaced(f"topic {topic!r} was made anew: see the manual on a log that went back")
            if wanted.whole and records[-1].offset - self._next != len(records) - 1:
                raise RecordsGone(f"{topic}[{partition}] is kept for ever but lacks records from {self._next} on")
            self._fetched.extend(records)
            self._next = records[-1].offset + 1
        self._next = max(self._next, batch.ends.get(which, 0))
        if not records and not batch.ends and time.monotonic() > deadline:
            raise LogUnavailable(f"{what}: the brokers do not answer")

    def close(self) -> None:
        self._consumer.close()


class Readers:
    """The consumers. Any thread may read."""

    def __init__(self, settings: KafkaSettings, administration: Administration) -> None:
        self._settings, self._administration = settings, administration
        self._guard = threading.Lock()
        self._idle: list[_Reader] = []  # the longest idle first
        self._ends: dict[TopicPartition, int] = {}  # seen once: a later look finds no less
        self._closed = False

    def read(self, wanted: Wanted) -> list[Record]:
        """Raises PositionBeyondEnd, RecordsGone, LogUnavailable."""
        which, offset = wanted.which, wanted.offset
        if offset >= self._ends.get(which, 0):
            self._ends[which] = self._administration.ends([which])[which]
        end = self._ends[which]
        if offset > end:
            raise PositionBeyondEnd(*which, offset, end)
        if offset == end:
            return []
        reader = self._take(wanted)
        try:
            records = reader.read(wanted, end, self._administration)
        except BaseException:
            # It stands nobody knows where; and what it knew of the end may come from before a log was made anew.
            self._ends.pop(which, None)
            reader.close()
            raise
        self._give_back(reader)
        return records

    def _take(self, wanted: Wanted) -> _Reader:
        few = wanted.max_records < _FEW
        with self._guard:
            if self._closed:
                raise LogClosed("the log is closed")
            for reader in self._idle:
                if reader.at == (wanted.which, wanted.offset) and reader.few <= few:
                    self._idle.remove(reader)
                    return reader
            of_kind = [reader for reader in self._idle if reader.few == few]
            if len(of_kind) >= _IDLE_MAX:
                self._idle.remove(of_kind[0])
                return of_kind[0]
        return _Reader(self._settings, few)

    def _give_back(self, reader: _Reader) -> None:
        with self._guard:
            if not self._closed and sum(idle.few == reader.few for idle in self._idle) < _IDLE_MAX:
                self._idle.append(reader)
                return
        reader.close()

    def rest(self) -> None:
        """Those whose caller has not gone on for a while fetch no more."""
        now_s = time.monotonic()
        with self._guard:
            for reader in self._idle:
                if now_s - reader.used_at_s > _IDLE_S:
                    reader.rest()

    def close(self) -> None:
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()

    def abandon(self) -> None:
        """In a forked child: the consumers are the parent's."""
        self._guard = threading.Lock()
        self._closed = True

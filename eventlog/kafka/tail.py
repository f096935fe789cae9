"""Following several partitions at once."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from confluent_kafka import KafkaError

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.errors import LogClosed, LogUnavailable, LogWentBack, PositionBeyondEnd, RecordsGone
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.catalog import Catalog
from annals.eventlog.kafka.failures import OUT_OF_RANGE, as_log_error
from annals.eventlog.kafka.fetcher import Fetcher
from annals.eventlog.kafka.reader import first_kept
from annals.eventlog.kafka.settings import KafkaSettings

_POLL_BYTES = 8 << 20
_PATIENCE_S = 5.0  # for the first fetch of what is known to be there, even by a poll that shall not wait
_STUCK_LOOKS = 5  # so often in turn nothing came of what is there: then it is asked for anew
_BEYOND_LOOKS = 2  # a leader that is new may have to learn first what the one before it had acknowledged


class KafkaTail:
    """See `api.Tail`. `written`: the ends that this process's appends have reached, by partition; kept by the log."""

    def __init__(
        self,
        settings: KafkaSettings,
        administration: Administration,
        catalog: Catalog,
        positions: Mapping[TopicPartition, int],
        written: Mapping[TopicPartition, int],
    ) -> None:
        self._settings, self._administration, self._catalog = settings, administration, catalog
        self._written = written
        topics = {which: catalog.check(*which) for which in positions}
        self._whole = frozenset(which for which, topic in topics.items() if topic.whole)
        self._topic_ids = {topic.name: topic.topic_id for topic in topics.values()}
        self._ends = administration.ends(positions)
        for (topic, partition), offset in positions.items():
            self._check(topic, partition, offset)
        self._positions = dict(positions)
        self._turns = deque(positions)
        self._changed = threading.Condition()
        self._woken = self._closed = False
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._behind_since: float | None = None
        # Position; how often in turn beyond the end, and stuck below it.
        self._looks: dict[TopicPartition, tuple[int, int, int]] = {}
        self._fetcher = self._fetch({})

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return MappingProxyType(self._positions)

    def poll(self, timeout_s: float | None, max_records: int = 1000) -> list[Record]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self._changed:
                records = self._await(deadline, max_records)
            if records is not None:
                return records
            self._recover()

    def seek(self, topic: str, partition: int, offset: int) -> None:
        which = (topic, partition)
        if which not in self._positions:
            raise KeyError(f"this tail does not follow {topic}[{partition}]")
        self._ends[which] = self._administration.ends([which])[which]
        self._check(topic, partition, offset)
        self._fetcher.given.pop(which, None)
        self._restart(which, offset)

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()
        self._ring()

    def recheck(self) -> None:
        """A topic was replaced: whoever waits looks whether it is one of ours."""
        with self._changed:
            self._changed.notify_all()

    def fetched(self) -> dict[TopicPartition, int]:
        """How far it has come, for `look`."""
        with self._changed:
            return {} if self._closed else dict(self._fetcher.fetched)

    def look(self, fetched: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> None:
        """What `fetched` gave before, and the ends after that. A broker that was restored from an older state need not
        say so to who waits at a higher position, or knows of a later leader: it gives nothing for ever."""
        with self._changed:
            fetcher = self._fetcher
            for which, position in fetched.items():
                end = ends[which]
                before, beyond, stuck = self._looks.get(which, (-1, 0, 0))
                same = position == before and position == fetcher.fetched[which]
                beyond = beyond + 1 if position > end else 0
                stuck = stuck + 1 if same and position < end and not fetcher.full else 0
                if (beyond >= _BEYOND_LOOKS or stuck >= _STUCK_LOOKS) and fetcher.failure is None:
                    fetcher.fail(which, KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
                    beyond = stuck = 0
                self._looks[which] = (position, beyond, stuck)

    def fileno(self) -> int:
        return self._bell.fileno()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._fetcher.end()
            self._bell.close()
            self._ringer.close()

    def join(self, timeout_s: float) -> None:
        """After `close`: until the thread has ended."""
        self._fetcher.join(timeout_s)

    def abandon(self) -> None:
        """In a forked child."""
        self._changed = threading.Condition()
        self._closed = True
        self._bell.close()
        self._ringer.close()

    def _await(self, deadline: float | None, max_records: int) -> list[Record] | None:
        """Records, or [] when the time is up; None where the fetcher has failed."""
        while True:
            if self._closed:
                raise LogClosed("the tail is closed")
            for topic in {topic for topic, _ in self._positions}:
                self._catalog.topic(topic)
            self._silence()
            patient_s = self._patient_s()
            if patient_s <= 0:
                if records := self._take(max_records):
                    return records
                if self._fetcher.failure is not None or self._fetcher.replaced is not None:
                    return None
            if self._woken:
                self._woken = False
                return []
            left_s = None if deadline is None else deadline - time.monotonic()
            if patient_s > 0:
                left_s = patient_s
            elif left_s is not None and left_s <= 0:
                return []
            self._changed.wait(left_s)

    def _patient_s(self) -> float:
        """How long to wait for what is known to be there, so that a poll gives each partition its share of it."""
        fetcher, now = self._fetcher, time.monotonic()
        failed = fetcher.failure is not None or fetcher.replaced is not None
        behind = not failed and any(
            not fetcher.held[which] and fetched < max(self._ends[which], self._written.get(which, 0))
            for which, fetched in fetcher.fetched.items()
        )
        if not behind:
            self._behind_since = None
            return 0
        self._behind_since = self._behind_since or now
        return self._behind_since + _PATIENCE_S - now

    def _take(self, max_records: int) -> list[Record]:
        """From each partition that has some, an even share, beginning with another one each time."""
        self._turns.rotate(-1)
        fetcher = self._fetcher
        filled = [which for which in self._turns if fetcher.held[which]]
        records: list[Record] = []
        size = 0
        for index, which in enumerate(filled):
            share = -(-(max_records - len(records)) // (len(filled) - index))
            if share <= 0 or (size >= _POLL_BYTES and records):
                break
            taken, taken_bytes = fetcher.take(which, share, (_POLL_BYTES - size) // (len(filled) - index))
            records += taken
            size += taken_bytes
        self._positions.update((which, fetcher.position(which)) for which in self._positions)
        if any(fetcher.held.values()):
            self._ring()
        return records

    def _recover(self) -> None:
        """The fetcher has failed: goes on behind a gap, or raises, now and whenever it is polled again."""
        if self._fetcher.replaced is not None:
            self._catalog.replaced(self._fetcher.replaced)
            self._catalog.topic(self._fetcher.replaced)  # raises
        if self._fetcher.failure is None:
            return
        which, error = self._fetcher.failure
        if which is None or error.code() not in OUT_OF_RANGE:
            failure = as_log_error("cannot follow the log", error)
            if isinstance(failure, LogUnavailable):
                self._restart(*next(iter(self._positions.items())))
            raise failure
        if (differs := self._fetcher.differs) is not None:
            raise LogWentBack(f"{_name(differs)} has another record where the last one stood that was read")
        try:
            offset = first_kept(self._administration, which, self._positions[which], which in self._whole)
        except PositionBeyondEnd:
            self._catalog.look_again(which[0])
            raise
        if self._fetcher.lacks == which:
            raise RecordsGone(f"{_name(which)} is kept for ever but lacks records from {offset} on")
        given = self._fetcher.given.get(which)
        if offset != self._positions[which] or (given is not None and self._is_gone(which, given)):
            self._fetcher.given.pop(which, None)
        self._restart(which, offset)

    def _restart(self, which: TopicPartition, offset: int) -> None:
        with self._changed:
            if self._closed:
                raise LogClosed("the tail is closed")
            self._fetcher.end()
            self._positions[which] = offset
            self._behind_since = None
            self._looks.clear()
            self._fetcher = self._fetch(self._fetcher.given)

    def _fetch(self, given: Mapping[TopicPartition, Record]) -> Fetcher:
        return Fetcher(self._settings, self._positions, self._topic_ids, given, self._whole, self._changed, self._ring)

    def _is_gone(self, which: TopicPartition, record: Record) -> bool:
        """Whether age has taken a record."""
        return self._administration.starts([which])[which] > record.offset

    def _ring(self) -> None:
        with suppress(OSError):  # full: it rings already; closed: nobody waits
            self._ringer.send(b"\0")

    def _silence(self) -> None:
        with suppress(OSError):
            while self._bell.recv(4096):
                pass

    def _check(self, topic: str, partition: int, offset: int) -> None:
        end = self._ends[topic, partition]
        if offset < 0:
            raise ValueError(f"offset {offset} of {topic}[{partition}]")
        if offset > end:
            raise PositionBeyondEnd(topic, partition, offset, end)


def _name(which: TopicPartition) -> str:
    return f"{which[0]}[{which[1]}]"

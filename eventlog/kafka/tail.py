"""Following several partitions at once."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.errors import LogClosed, LogUnavailable, PositionBeyondEnd, RecordsGone
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.catalog import Catalog
from annals.eventlog.kafka.failures import OUT_OF_RANGE, as_log_error
from annals.eventlog.kafka.fetcher import Fetcher
from annals.eventlog.kafka.reader import first_kept
from annals.eventlog.kafka.settings import KafkaSettings

_POLL_BYTES = 8 << 20
_PATIENCE_S = 0.5  # for the first fetch of what is known to be there, even by a poll that shall not wait


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
        self._whole = frozenset(which for which in positions if catalog.check(*which).whole)
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
        self._fetcher = self._fetch()

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
                if self._fetcher.failure is not None:
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
        behind = fetcher.failure is None and any(
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
        if self._fetcher.failure is None:
            return
        which, error = self._fetcher.failure
        if which is None or error.code() not in OUT_OF_RANGE:
            failure = as_log_error("cannot follow the log", error)
            if isinstance(failure, LogUnavailable):
                self._restart(*next(iter(self._positions.items())))
            raise failure
        offset = first_kept(self._administration, which, self._positions[which], which in self._whole)
        if self._fetcher.lacks == which:
            raise RecordsGone(f"{which[0]}[{which[1]}] is kept for ever but lacks records from {offset} on")
        self._restart(which, offset)

    def _restart(self, which: TopicPartition, offset: int) -> None:
        with self._changed:
            if self._closed:
                raise LogClosed("the tail is closed")
            self._fetcher.end()
            self._positions[which] = offset
            self._behind_since = None
            self._fetcher = self._fetch()

    def _fetch(self) -> Fetcher:
        return Fetcher(self._settings, self._positions, self._whole, self._changed, self._ring)

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

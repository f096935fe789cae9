"""Following several partitions at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.embedded.doorbell import Doorbell, Folder, interest_in
from annals.eventlog.errors import LogClosed, PositionBeyondEnd

_POLL_BYTES = 8 << 20

Ends = Callable[[], Mapping[TopicPartition, int]]
Read = Callable[[str, int, int, int, int], list[Record]]

# A writer that is killed between its commit and its ring is heard of by a look at the ends all the same.
_LOOK_S = 0.2


class EmbeddedTail:
    """See `api.Tail`. `ids`: its partitions by their id. `ends` gives the ends of all partitions at one moment, `read`
    is `Log.read`."""

    def __init__(
        self,
        positions: Mapping[TopicPartition, int],
        folder: Folder,
        ids: Mapping[int, TopicPartition],
        ends: Ends,
        read: Read,
    ) -> None:
        self._ends, self._read = ends, read
        self._ids = ids
        self._known_ends = dict(ends())
        for (topic, partition), offset in positions.items():
            self._check(topic, partition, offset)
        self._positions = dict(positions)
        self._turns = deque(self._positions)
        self._looked_s = 0.0
        self._woken = False
        self._closed = False
        self._busy = threading.RLock()
        # Before the first look at the ends in `poll`: what is appended after that look rings.
        self._bell = Doorbell(folder, interest_in(ids))

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return MappingProxyType(self._positions)

    def poll(self, timeout_s: float | None, max_records: int = 1000) -> list[Record]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._busy:
            while not self._closed:
                # In this order: a record that comes after the look at the ends makes the wait end at once. Where
                # nothing rang since the last look, there is nothing to see.
                now_s = time.monotonic()
                said = self._bell.clear()
                if said is None or now_s - self._looked_s > _LOOK_S:
                    self._known_ends = dict(self._ends())
                    self._looked_s = now_s
                elif said:
                    self._hear(said)
                records = self._take(max_records)
                if records:
                    return records
                if self._woken:
                    self._woken = False
                    return []
                if not self._bell.wait(deadline):
                    return []
        raise LogClosed("the tail is closed")

    def seek(self, topic: str, partition: int, offset: int) -> None:
        if (topic, partition) not in self._positions:
            raise KeyError(f"this tail does not follow {topic}[{partition}]")
        with self._busy:
            self._known_ends = dict(self._ends())
            self._check(topic, partition, offset)
            self._positions[topic, partition] = offset

    def wake(self) -> None:
        self._woken = True
        self._bell.ring()

    def fileno(self) -> int:
        return self._bell.fileno()

    def close(self) -> None:
        self._closed = True
        self._bell.ring()
        with self._busy:  # the poll that may be running has ended: its socket's number may be used anew
            self._bell.close()

    def abandon(self) -> None:
        """In a forked child."""
        self._closed = True
        self._busy = threading.RLock()
        self._bell.abandon()

    def _hear(self, said: Mapping[int, int]) -> None:
        for partition_id, end in said.items():
            which = self._ids.get(partition_id)
            if which is not None and end > self._known_ends[which]:
                self._known_ends[which] = end

    def _take(self, max_records: int) -> list[Record]:
        """From each partition that has some, an even share, beginning with another one each time."""
        self._turns.rotate(-1)
        behind = [which for which in self._turns if self._positions[which] < self._known_ends[which]]
        records: list[Record] = []
        size = 0
        for index, which in enumerate(behind):
            share = -(-(max_records - len(records)) // (len(behind) - index))
            if share <= 0 or (size >= _POLL_BYTES and records):
                break
            taken = self._read(*which, self._positions[which], share, (_POLL_BYTES - size) // (len(behind) - index))
            size += sum(len(record.key) + len(record.value or b"") for record in taken)
            records += taken
            # Fewer than the end promises may be left by compaction: the position passes over the gap.
            self._positions[which] = taken[-1].offset + 1 if taken else self._known_ends[which]
        return records

    def _check(self, topic: str, partition: int, offset: int) -> None:
        end = self._known_ends[topic, partition]
        if offset < 0:
            raise ValueError(f"offset {offset} of {topic}[{partition}]")
        if offset > end:
            raise PositionBeyondEnd(topic, partition, offset, end)

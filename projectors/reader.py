"""What a loop reads: the partitions that are ours, and `operations` besides, as it says which records are skipped."""

from __future__ import annotations

from collections.abc import Mapping

from annals.eventlog.api import Log, Record, Tail, TopicPartition
from annals.eventlog.errors import PositionBeyondEnd
from annals.projectors.errors import LogWentBack
from annals.projectors.poison import OPERATIONS, Skips, skips_in


class Reader:
    """Follows partitions that come and go. `skips` is one set for ever: workers look into it."""

    def __init__(self, log: Log) -> None:
        self.skips: Skips = set()
        self._log = log
        self._operations_next = 0
        self._tail: Tail | None = None

    def read_skips(self) -> Skips:
        """All skips on the log that we had not read: known before a partition is taken, so that a rebuild leaves out
        what was left out. Raises LogWentBack."""
        news: Skips = set()
        try:
            while records := self._log.read(*OPERATIONS, self._operations_next):
                news |= self._hear(records)
        except PositionBeyondEnd as error:
            raise LogWentBack(*OPERATIONS, f"it was read up to {error.offset}, and ends at {error.end}") from error
        return news

    def follow(self, positions: Mapping[TopicPartition, int]) -> None:
        """Follow these, from these offsets, instead of what was followed. Call `read_skips` first."""
        self.close()
        # Whoever owns `operations`, we hear what is skipped.
        self._tail = self._log.tail({OPERATIONS: self._operations_next, **positions})

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offsets to read."""
        return self._tail.positions if self._tail is not None else {}

    def poll(self, timeout_s: float | None, records_max: int) -> tuple[list[Record], Skips]:
        """Records, as Tail.poll gives them, and the skips among them; nothing, at once, where nothing is followed."""
        if self._tail is None:
            return [], set()
        records = self._tail.poll(timeout_s, records_max)
        return records, self._hear(records)

    def wake(self) -> None:
        """Make the running poll, or the next one, return without waiting. From any thread."""
        tail = self._tail
        if tail is not None:
            tail.wake()

    def close(self) -> None:
        """Follow nothing."""
        if self._tail is not None:
            self._tail.close()
        self._tail = None

    def _hear(self, records: list[Record]) -> Skips:
        ours = [record for record in records if (record.topic, record.partition) == OPERATIONS]
        if not ours:
            return set()
        self._operations_next = max(self._operations_next, ours[-1].offset + 1)
        news = skips_in(ours)
        self.skips |= news
        return news

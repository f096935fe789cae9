"""A partition that is ours: its worker, and what is read of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from annals.eventlog.api import Record
from annals.projectors import metrics
from annals.projectors.work import Worker


@dataclass(slots=True)
class Owned:
    """`settling` folds, some at each step, what was decided before we came; only then the partition is read.

    `settled` counts these times. `backlog` is read and not folded yet; `stopped` says why the partition stands still:
    it is not read then.
    """

    worker: Worker
    settling: Iterator[int] | None = None
    settled: int = 0
    backlog: list[Record] = field(default_factory=list)
    stopped: str | None = None

    @property
    def next_wanted(self) -> int:
        """The lowest offset that is neither in the tables nor in the backlog."""
        return self.backlog[-1].offset + 1 if self.backlog else self.worker.position.next_offset

    def below(self, stop: int | None, count: int) -> list[Record]:
        """The first records of the backlog, those below `stop`."""
        first = self.backlog[:count]
        return first if stop is None else [record for record in first if record.offset < stop]

    @property
    def is_read(self) -> bool:
        """Whether records are wanted."""
        return self.settling is None and self.stopped is None

    def settle(self) -> int:
        """Fold some of what was decided; how many steps, 0 when that is done."""
        if self.settling is None:
            return 0
        count = next(self.settling, 0)
        self.settled += 1
        if not count:
            self.settling = None
        return count

    def sort_in(self, record: Record) -> None:
        """A log may deliver a record again (a rebalance, a reconnection): what we have, we have."""
        if self.is_read and record.offset >= self.next_wanted:
            self.backlog.append(record)

    def stop(self, why: str) -> None:
        """Stand still before the next record. What is behind it is read again then, it may be long."""
        group, _, number = self.worker.key
        self.stopped = why
        self.backlog.clear()
        metrics.STOPPED.labels(group, number).set(1)

    def go_on(self) -> None:
        """Whatever it stood at is dealt with."""
        group, _, number = self.worker.key
        self.stopped = None
        metrics.STOPPED.labels(group, number).set(0)

    def forget(self) -> None:
        """It is not ours any more: nothing in memory is true, and nothing is said about it."""
        group, _, number = self.worker.key
        self.settling = None
        self.backlog.clear()
        self.worker.forget()
        # A label cannot be taken back where several processes write metrics: 0 adds nothing to the others'.
        metrics.STOPPED.labels(group, number).set(0)

"""Deciding what comes next while what was decided is written, in a thread of its own: for replays, where nobody waits.

    this thread     look up, decide, fold: partitions a ─▶ partitions b ─▶ partitions a ...
    the writer              take positions, append, COPY, commit: a ─▶ b ...

What is decided reads rows of its own partitions alone, and none of these are being written. It reads them outside of
the writer's transaction: the fence is taken when it is written, with the rows, and holds for what was read before,
since nobody changes these rows but their partition's owner.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from annals.projectors.errors import GroupPartition
from annals.projectors.owned import Owned
from annals.projectors.transaction import Job, Transactions
from annals.projectors.work import Applied, prepared


@dataclass(frozen=True, slots=True)
class Batch:
    """Some partitions' records, to be worked on together. `offered` is their number."""

    owned: Sequence[Owned]
    jobs: Sequence[Job]
    offered: int


@dataclass(frozen=True, slots=True)
class _UnderWay:
    batch: Batch
    applied: Sequence[Applied]
    ends: Future[list[int | None]]


class Ahead:
    """One batch may be under way to the tables. Used by one thread, but for the writer that it owns."""

    def __init__(self, reading: Transactions, writing: Transactions) -> None:
        """Each on a connection of its own."""
        self._reading, self._writing = reading, writing
        self._writer = ThreadPoolExecutor(1, "replay-writer")
        self._under_way: _UnderWay | None = None

    @property
    def busy(self) -> Collection[GroupPartition]:
        """The partitions that are being written."""
        return {job.worker.key for job in self._under_way.batch.jobs} if self._under_way else ()

    def choose(self, waiting: Sequence[Owned]) -> list[Owned]:
        """Of partitions with a backlog those to decide now: what is not being written, at first about half of it all,
        so that there is something to decide meanwhile."""
        busy = self.busy
        if busy:
            return [owned for owned in waiting if owned.worker.key not in busy]
        chosen: list[Owned] = []
        left = sum(len(owned.backlog) for owned in waiting) / 2
        for owned in waiting:
            if chosen and left <= 0:
                break
            chosen.append(owned)
            left -= len(owned.backlog)
        return chosen

    def decide(self, batch: Batch, work_s_max: float) -> list[Applied]:
        """What becomes of the batch; nothing is written."""
        return self._reading.decide(batch.jobs, work_s_max)

    def write(self, batch: Batch, applied: Sequence[Applied]) -> None:
        """Begin to write it; after `written` has given the one before."""
        if self._under_way is not None:
            raise ValueError("a batch is under way")
        self._under_way = _UnderWay(batch, applied, self._writer.submit(self._write, batch, applied))

    def written(self) -> tuple[Batch, Sequence[Applied]] | None:
        """Wait for what is under way, if anything is: it is in the tables, and its workers know. Raises as
        Transactions.run does: then nothing of it is."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return None
        for done, end in zip(under_way.applied, under_way.ends.result(), strict=True):
            done.commit(end)
        return under_way.batch, under_way.applied

    def close(self) -> None:
        """Wait for the writer, whatever comes of it: who owns the connections may close them then."""
        self._writer.shutdown()
        self._under_way = None

    def _write(self, batch: Batch, applied: Sequence[Applied]) -> list[int | None]:
        # What a worker knows is for the deciding thread to change.
        ends: list[int | None] = []
        jobs = [
            Job(job.worker, prepared(replace(done, commit=ends.append)))
            for job, done in zip(batch.jobs, applied, strict=True)
        ]
        self._writing.run(jobs)
        return ends

"""The projector loop: one a process, one thread, over all its partitions.

    wait for records ─▶ a batch: what came while the last one ran, at most 1,000 ─▶ one transaction ─▶ again

Errors of database or log, and a lost fence, give partitions up: their memory is thrown away and they are taken again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log, Record, Tail
from annals.projectors import metrics
from annals.projectors.errors import CannotTake, FenceLost, GivenUp, GroupPartition
from annals.projectors.groups import GROUPS
from annals.projectors.plain_worker import PlainWorker
from annals.projectors.poison import Skips, read_skips, skips_in
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.rooms.fold import local_to
from annals.projectors.rooms.tables import HALTED_ROOMS
from annals.projectors.rooms.views import ViewCache
from annals.projectors.rooms.worker import RoomsWorker
from annals.projectors.taking import Taken, Taking, copy_decided, fold_decided, keys_of
from annals.projectors.transaction import WORK_S_MAX, Job, Transactions
from annals.projectors.work import Applied, Position, Prepared, Worker, ready
from annals.schemas.topics import decisions_topic

_logger = structlog.get_logger(__name__)

RECORDS_MAX = 1_000
_RECORDS_MIN = 20
_IDLE_S = 1.0
_BACKOFF_S_MIN, _BACKOFF_S_MAX = 0.05, 5.0

Connect = Callable[[], WriteConnection]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a loop works on. `owner` names this process, anew at each start; `groups` None: all of them."""

    generation: str
    server_name: str
    owner: str
    groups: Sequence[str] = tuple(GROUPS)
    records_max: int = RECORDS_MAX
    work_s_max: float = WORK_S_MAX


@dataclass(slots=True)
class _Partition:
    """A partition that is ours. `backlog` is read and not folded yet; `stopped` says why it stands still."""

    worker: Worker
    backlog: list[Record] = field(default_factory=list)
    stopped: str | None = None

    @property
    def next_wanted(self) -> int:
        """The lowest offset that is neither in the tables nor in the backlog."""
        return self.backlog[-1].offset + 1 if self.backlog else self.worker.position.next_offset


class Loop:
    """Owns partitions and folds what comes. `run` blocks until `stop`; the other methods are for tests and replays."""

    def __init__(self, log: Log, connect: Connect, settings: Settings) -> None:
        self._log = log
        self._connect = connect
        self._settings = settings
        self._views = ViewCache()
        self._decisions = DecisionsLog(log, settings.generation)
        self._is_local = local_to(settings.server_name)
        self._skips: Skips = set()
        self._partitions: dict[GroupPartition, _Partition] = {}
        self._held: dict[GroupPartition, int] = {}
        self._connection: WriteConnection | None = None
        self._transactions: Transactions | None = None
        self._tail: Tail | None = None
        self._stopping = threading.Event()
        self._records_next = settings.records_max

    @property
    def positions(self) -> Mapping[GroupPartition, int]:
        """Next offsets of the partitions that are ours."""
        return {key: partition.worker.position.next_offset for key, partition in list(self._partitions.items())}

    @property
    def stopped(self) -> Mapping[GroupPartition, str]:
        """Partitions that stand at a record that cannot be read, and why."""
        return {key: partition.stopped for key, partition in self._partitions.items() if partition.stopped}

    def run(self) -> None:
        """Take all partitions and fold until `stop`. Raises CannotTake where an operator has to act."""
        backoff_s = _BACKOFF_S_MIN
        try:
            while not self._stopping.is_set():
                try:
                    if self._tail is None:
                        self.take()
                        backoff_s = _BACKOFF_S_MIN
                    if not self.step(_IDLE_S) and self._connection is not None:
                        # A PostgreSQL that crashed while nothing came may have lost commits: fold them again now.
                        self._connection.check()
                except CannotTake:
                    raise
                except Exception as error:
                    # Whatever it is: nothing of the batch was committed, and what the log has decided stays decided.
                    self._give_up(error)
                    self._stopping.wait(backoff_s)
                    backoff_s = min(_BACKOFF_S_MAX, backoff_s * 2)
        finally:
            self.close()

    def stop(self) -> None:
        """Make `run` return, from any thread."""
        self._stopping.set()
        tail = self._tail
        if tail is not None:
            tail.wake()

    def take(self) -> None:
        """Take all partitions of our groups, fold what is decided, and follow the log from there."""
        self._skips |= read_skips(self._log)
        self._connection = self._connect()
        self._transactions = Transactions(self._connection, self._settings.generation, self._decisions)
        taking = Taking(self._connection, self._log, self._decisions, self._settings.owner)
        keys = keys_of(self._log, self._settings.groups)
        for taken in taking.own(keys, self._held):
            self._held[taken.key] = taken.epoch
            self._partitions[taken.key] = _Partition(self._worker(taken))
        self._tail = self._log.tail(
            {(topic, partition): offset for (_, topic, partition), offset in self.positions.items()}
        )
        self._count_halted()

    def _worker(self, taken: Taken) -> Worker:
        group, _, partition = taken.key
        if taken.mark is None:
            return PlainWorker(GROUPS[group], partition, taken.epoch, taken.position, self._skips)
        worker = RoomsWorker(
            self._log, self._decisions, partition, taken.epoch, taken.position, self._skips, self._views, self._is_local
        )
        worker.forget()
        fold_decided(self._log, self._decisions, worker, taken.mark, self._running())
        return worker

    def step(self, timeout_s: float | None = 0.0) -> int:
        """One batch: wait for records, fold them; how many were folded."""
        tail = self._tail
        if tail is None:
            raise GivenUp("the loop owns no partitions")
        room = self._settings.records_max - sum(len(partition.backlog) for partition in self._partitions.values())
        waiting = room < self._settings.records_max
        if room > 0:
            self._sort_in(tail.poll(0.0 if waiting else timeout_s, room))
        batch = [partition for partition in self._partitions.values() if partition.backlog and not partition.stopped]
        if not batch:
            self._pass_gaps(tail)
            return 0
        return self._fold(batch)

    def catch_up(self) -> None:
        """Fold until the log has no more. For tests and replays: the live loop never asks."""
        while self.step(0.0) or any(p.backlog and not p.stopped for p in self._partitions.values()):
            pass

    def copy_from(self, source_generation: str, on_progress: Callable[[], None] = lambda: None) -> None:
        """Fold what another generation decided, into ours and onto our decisions topic. For replays, after `take`."""
        source_topic = decisions_topic(source_generation).name
        tail = self._tail
        for (_, topic, number), partition in self._partitions.items():
            worker = partition.worker
            if tail is not None and isinstance(worker, RoomsWorker):
                copy_decided(self._log, source_topic, worker, self._running(), on_progress)
                tail.seek(topic, number, worker.position.next_offset)

    def close(self) -> None:
        """Give everything back; the position rows keep our epoch, so that a restart takes them at once."""
        if self._tail is not None:
            self._tail.close()
        if self._connection is not None:
            self._connection.close()
        self._tail = self._connection = self._transactions = None
        for partition in self._partitions.values():
            partition.worker.forget()
        self._partitions.clear()

    def _running(self) -> Transactions:
        if self._transactions is None:
            raise GivenUp("the loop has no connection")
        return self._transactions

    def _sort_in(self, records: Sequence[Record]) -> None:
        by_topic = {(topic, number): p for (_, topic, number), p in self._partitions.items()}
        for record in records:
            partition = by_topic[record.topic, record.partition]
            # A log may deliver a record again (a rebalance, a reconnection): what we have, we have.
            if record.offset >= partition.next_wanted:
                partition.backlog.append(record)

    def _fold(self, batch: Sequence[_Partition]) -> int:
        started_s = time.monotonic()
        share = max(1, self._records_next // len(batch))
        jobs = [Job(partition.worker, partition.worker.prepare(partition.backlog[:share])) for partition in batch]
        before = sum(len(partition.backlog) for partition in batch)
        try:
            applied = self._running().run(jobs, self._settings.work_s_max)
        except FenceLost as lost:
            _logger.error("fence_lost", partitions=sorted(lost.partitions))
            raise
        left = sum([self._after(partition, done) for partition, done in zip(batch, applied, strict=True)])
        count = before - left
        self._plan(started_s, count)
        metrics.BATCH_RECORDS.observe(count)
        metrics.BATCH_SECONDS.observe(time.monotonic() - started_s)
        metrics.VIEWS_BYTES.set(self._views.weight_bytes)
        if any(table is HALTED_ROOMS for done in applied for table, _ in done.rows.tables()):
            self._count_halted()
        return count

    def _plan(self, started_s: float, count: int) -> None:
        """How many records the next batch takes: about what fits into its time, as what is left over is read anew."""
        took_s = time.monotonic() - started_s
        if took_s > self._settings.work_s_max:
            self._records_next = min(self._settings.records_max, max(_RECORDS_MIN, count))
        else:
            self._records_next = min(self._settings.records_max, self._records_next * 2)

    def _after(self, partition: _Partition, done: Applied) -> int:
        group, _, number = partition.worker.key
        folded = [record for record in partition.backlog if record.offset < done.position.next_offset]
        partition.backlog = partition.backlog[len(folded) :]
        metrics.RECORDS.labels(group).inc(len(folded))
        if done.stopped is not None:
            partition.stopped = done.stopped
            metrics.STOPPED.labels(group, number).set(1)
            _logger.critical("partition_stopped", partition=partition.worker.key, why=done.stopped)
        if group == "operations":
            self._skip(skips_in(folded))
        return 0 if partition.stopped else len(partition.backlog)

    def _skip(self, skips: Skips) -> None:
        """An operator skips a record: the partition that stands there goes on."""
        self._skips |= skips
        for topic, number, offset in skips:
            for (group, of_topic, of_number), partition in self._partitions.items():
                if (of_topic, of_number) == (topic, number) and partition.worker.position.next_offset == offset:
                    partition.stopped = None
                    metrics.STOPPED.labels(group, number).set(0)

    def _pass_gaps(self, tail: Tail) -> None:
        """Where compaction took the last records, the position moves over the gap: who waits for the end must not wait
        for ever."""
        jobs = []
        for key, partition in self._partitions.items():
            was = partition.worker.position
            reached = tail.positions[key[1], key[2]]
            if reached > was.next_offset and not partition.backlog and not partition.stopped:
                over = Position(reached, was.decisions_offset, was.marked_epoch, None)
                jobs.append(Job(partition.worker, _gap(partition.worker, over)))
        if jobs:
            self._running().run(jobs)

    def _give_up(self, error: Exception) -> None:
        for group, _, _ in self._partitions:
            metrics.GIVEN_UP.labels(group).inc()
        _logger.error("partitions_given_up", partitions=len(self._partitions), exc_info=error)
        self.close()

    def _count_halted(self) -> None:
        if self._connection is not None:
            row = self._connection.one("SELECT count(*) FROM halted_rooms")
            metrics.HALTED_ROOMS.set(row[0] if row else 0)


def _gap(worker: Worker, position: Position) -> Prepared:
    applied = worker.passed(position)
    return Prepared(applied.position, lambda _foreseen, _deadline_s: ready(applied))

"""The projector loop: one a process, one thread, over the partitions that are ours.

    whose turn is it? ─▶ wait for records ─▶ a batch: what came while the last one ran, at most 1,000 ─▶ one transaction
          ▲  (drop, take)                                                                                     │
          └───────────────────────────────────────────────────────────────────────────────────────────────────┘

Errors of database or log, and a lost fence, give everything up: memory is thrown away, our place among those who share
the partitions is left, and we join anew. What the coordinator says is a hint; the position rows are the fence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log, Record, TopicPartition
from annals.eventlog.errors import RecordsGone, TopicReplaced
from annals.projectors import metrics
from annals.projectors.ahead import Ahead, Batch
from annals.projectors.errors import CannotTake, GivenUp, GroupPartition, LogReplaced, StopsHere
from annals.projectors.groups import GROUPS
from annals.projectors.left_out import LeftOut
from annals.projectors.owned import Owned
from annals.projectors.plain_worker import PlainWorker
from annals.projectors.poison import Skips
from annals.projectors.reader import Reader
from annals.projectors.refolding import CopyCursors, copy_decided, fold_decided
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.rooms.fold import local_to
from annals.projectors.rooms.tables import HALTED_ROOMS
from annals.projectors.rooms.views import ViewCache
from annals.projectors.rooms.worker import RoomsWorker
from annals.projectors.share import Share
from annals.projectors.stops import in_force
from annals.projectors.taking import Taken, Taking
from annals.projectors.transaction import WORK_S_MAX, Job, Transactions
from annals.projectors.work import Applied, Position, prepared
from annals.schemas.topics import decisions_topic

_logger = structlog.get_logger(__name__)

RECORDS_MAX = 1_000
_RECORDS_MIN = 20
# How long nothing may come before we look at the connection, and at our place where others share.
_IDLE_S, _IDLE_SHARED_S, _IDLE_PENDING_S = 1.0, 0.25, 0.05
# While a stop holds (a switch, a diff): how often we look whether it still does.
_STOPPED_S = 0.005
_BACKOFF_S_MIN, _BACKOFF_SHARED_S_MIN, _BACKOFF_S_MAX = 0.05, 0.25, 5.0

Connect = Callable[[], WriteConnection]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a loop works on. `owner` names this process, anew at each start; `groups` None: all of them.

    `alone`: take all partitions and share with nobody, whatever the log (a replay). `ahead`: decide what comes next
    while what was decided is written (a replay that may use all of its time). `release_wait_s`: how long an owner
    that lives may take to give back what is ours by now, before its backend is ended. `left_out`: by partition of
    `rooms`, the offsets of facts that nothing comes of (see `projectors.left_out`).
    """

    generation: str
    server_name: str
    owner: str
    groups: Sequence[str] = tuple(GROUPS)
    records_max: int = RECORDS_MAX
    work_s_max: float = WORK_S_MAX
    alone: bool = False
    ahead: bool = False
    release_wait_s: float = 1.0
    left_out: LeftOut = field(default_factory=dict)


class Loop:
    """Owns partitions and folds what comes. `run` blocks until `stop`; the other methods are for tests and replays."""

    def __init__(self, log: Log, connect: Connect, settings: Settings) -> None:
        self._log = log
        self._connect = connect
        self._settings = settings
        self._views = ViewCache()
        self._decisions = DecisionsLog(log, settings.generation)
        self._is_local = local_to(settings.server_name)
        self._reader = Reader(log)
        self._partitions: dict[GroupPartition, Owned] = {}
        # The same, as they stand where the reader is.
        self._by_topic: dict[TopicPartition, Owned] = {}
        self._held: dict[GroupPartition, int] = {}
        self._share: Share | None = None
        self._shared = False
        self._pending: Collection[GroupPartition] = ()
        # What was assigned when all of it was ours.
        self._followed: Sequence[GroupPartition] | None = None
        self._connection: WriteConnection | None = None
        self._transactions: Transactions | None = None
        self._taking: Taking | None = None
        self._ahead: Ahead | None = None
        self._reading: WriteConnection | None = None
        # Whether what we read is not what we should read any more.
        self._tail_is_old = False
        self._stops: Mapping[GroupPartition, int] = {}
        self._stopping = threading.Event()
        self._records_next = settings.records_max

    @property
    def positions(self) -> Mapping[GroupPartition, int]:
        """Next offsets of the partitions that are ours."""
        return {key: owned.worker.position.next_offset for key, owned in list(self._partitions.items())}

    @property
    def stopped(self) -> Mapping[GroupPartition, str]:
        """Partitions that stand at a record that cannot be read, and why."""
        return {key: owned.stopped for key, owned in list(self._partitions.items()) if owned.stopped}

    def run(self) -> None:
        """Take what is ours and fold until `stop`. Raises CannotTake where an operator has to act."""
        backoff_s = 0.0
        try:
            while not self._stopping.is_set():
                try:
                    if self._turn():
                        backoff_s = 0.0
                except CannotTake:
                    raise
                except (RecordsGone, TopicReplaced) as error:
                    raise LogReplaced(str(error)) from error
                except Exception as error:
                    # Whatever it is: nothing of the batch was committed, and what the log has decided stays decided.
                    self._give_up(error)
                    least_s = _BACKOFF_SHARED_S_MIN if self._shared else _BACKOFF_S_MIN
                    backoff_s = min(_BACKOFF_S_MAX, max(least_s, backoff_s * 2))
                    self._stopping.wait(backoff_s)
        finally:
            self.close()

    def stop(self) -> None:
        """Make `run` return, from any thread."""
        self._stopping.set()
        self._reader.wake()

    def _turn(self) -> int:
        if self._share is None:
            self._begin()
        idle_s = self._idle_s()
        self.follow(0.0 if self._partitions else idle_s)
        count = self.step(idle_s)
        if not count and self._connection is not None:
            # A PostgreSQL that crashed while nothing came may have lost commits: fold them again now.
            self._connection.check()
        return count

    def _idle_s(self) -> float:
        if self._pending:
            return _IDLE_PENDING_S
        return _IDLE_SHARED_S if self._shared else _IDLE_S

    def take(self) -> None:
        """Take what is ours now, and fold what is decided of it."""
        self._begin()
        self.follow()
        while self._settle():
            pass

    def _begin(self) -> None:
        """Connect, then join: who cannot write is given nothing."""
        settings = self._settings
        self._connection = self._connect()
        self._transactions = Transactions(self._connection, settings.generation, self._decisions)
        if settings.ahead:
            self._reading = self._connect()
            reading = Transactions(self._reading, settings.generation, self._decisions)
            self._ahead = Ahead(reading, self._transactions)
        self._share = share = Share(self._log, settings.groups, settings.generation, alone=settings.alone)
        self._shared = share.shared
        self._taking = Taking(
            self._connection, self._log, self._decisions, settings.owner, share.poll, shared=self._shared
        )

    def follow(self, timeout_s: float = 0.0) -> None:
        """Ask whose turn it is; drop what is another's, take what is ours. Never within a transaction.

        Raises CannotTake, or what makes us give up.
        """
        if self._share is None or self._taking is None:
            raise GivenUp("the loop has not joined")
        assigned = self._share.poll(timeout_s)
        if assigned is self._followed:
            return
        ours = set(assigned)
        lost = [key for key in self._partitions if key not in ours]
        if lost:
            self._drop(lost)
        new = [key for key in assigned if key not in self._partitions]
        if new:
            self._take(new, self._share, self._taking)
        else:
            self._pending = ()
            self._followed = assigned

    def _drop(self, keys: Sequence[GroupPartition]) -> None:
        """Another's turn: say in the rows that nobody need be ended, before its owner looks."""
        epochs = {key: self._partitions[key].worker.epoch for key in keys}
        if self._taking is not None:
            self._taking.release(epochs)
        for key in keys:
            self._partitions.pop(key).forget()
        self._tail_is_old = True
        _logger.info("partitions_dropped", partitions=[f"{topic}[{number}]" for _, topic, number in keys])

    def _take(self, keys: Sequence[GroupPartition], share: Share, taking: Taking) -> None:
        rows = taking.look(keys)
        wait_s = self._settings.release_wait_s if self._shared else 0.0
        # An owner that lives is about to learn that its turn is over; one that stalls is ended.
        ripe = {key: row for key, row in rows.items() if row.live_pid is None or share.waited_s(key) >= wait_s}
        self._pending = rows.keys() - ripe.keys()
        if not ripe:
            return
        # All skips on the log are known before a partition is read.
        self._skip(self._reader.read_skips())
        for taken in taking.own(ripe, self._held):
            self._held[taken.key] = taken.epoch
            self._partitions[taken.key] = self._owned(taken)
        if self._shared:
            _logger.info("partitions_taken", partitions=[f"{topic}[{number}]" for _, topic, number in ripe])
        self._tail_is_old = True

    def _owned(self, taken: Taken) -> Owned:
        group, _, partition = taken.key
        skips = self._reader.skips
        if taken.mark is None:
            return Owned(PlainWorker(GROUPS[group], partition, taken.epoch, taken.position, skips))
        left_out = self._settings.left_out.get(partition, frozenset())
        worker = RoomsWorker(
            *(self._log, self._decisions, partition, taken.epoch, taken.position),
            *(skips, self._views, self._is_local, left_out),
        )
        worker.forget()
        return Owned(worker, fold_decided(self._log, self._decisions, worker, taken.mark, self._running()))

    def _settle(self) -> int:
        """Fold some of what was decided before we came; the partitions where that is done are read from now on."""
        settling = [owned for owned in self._partitions.values() if owned.settling is not None]
        for owned in sorted(settling, key=lambda owned: owned.settled):
            if count := owned.settle():
                return count
            self._tail_is_old = True
        return 0

    def _follow_tail(self) -> None:
        """Read what is ours: settled, and not stopped."""
        self._tail_is_old = False
        self._skip(self._reader.read_skips())
        self._reader.close()
        self._by_topic = {(topic, number): owned for (_, topic, number), owned in self._partitions.items()}
        if self._partitions:
            read = {key[1:]: owned.next_wanted for key, owned in self._partitions.items() if owned.is_read}
            self._reader.follow(read)
        self._count_halted()

    def step(self, timeout_s: float | None = 0.0) -> int:
        """One batch: wait for records, fold them; how many were folded."""
        if self._transactions is None:
            raise GivenUp("the loop owns no partitions")
        settled = self._settle()
        if self._tail_is_old:
            self._land()
            self._follow_tail()
        waiting = sum(len(owned.backlog) for owned in self._partitions.values())
        room = self._settings.records_max - waiting
        if room > 0:
            self._sort_in(*self._reader.poll(0.0 if waiting or settled else timeout_s, room))
        batch = self._foldable()
        if not batch:
            if landed := self._land():
                return settled + landed
            self._pass_gaps()
            if waiting:
                self._stand_still()
            return settled
        return settled + self._fold(batch)

    def _foldable(self) -> list[Owned]:
        """The partitions of which something is read that is below its stop."""
        waiting = [owned for owned in self._partitions.values() if owned.backlog]
        foldable = [owned for owned in waiting if owned.below(self._stops.get(owned.worker.key), 1)]
        return foldable if self._ahead is None else self._ahead.choose(foldable)

    def _stand_still(self) -> None:
        """All that is read is beyond the stop."""
        self._stopping.wait(_STOPPED_S)
        if self._connection is not None:
            self._stops = {key: at for key, (_, _, at) in in_force(self._connection).items()}

    def catch_up(self) -> None:
        """Fold until the log has no more, or to the stop. For tests and replays: the live loop never asks."""
        while self.step(0.0) or self._tail_is_old or self._foldable():
            pass

    def copy_from(
        self, source_generation: str, cursors: CopyCursors, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """Fold what another generation decided, into ours and onto our decisions topic. For replays, after `take`."""
        source_topic = decisions_topic(source_generation).name
        workers = [owned.worker for owned in self._partitions.values() if isinstance(owned.worker, RoomsWorker)]
        for _ in copy_decided(self._log, source_topic, workers, self._running(), cursors):
            on_progress()
        self._tail_is_old = True

    def close(self) -> None:
        """Give everything back; the position rows keep our epoch, so that a restart takes them at once.

        The connection ends before we leave: who takes a partition then need not end anybody.
        """
        self._reader.close()
        self._tail_is_old = False
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()
        for connection in (self._reading, self._connection):
            if connection is not None:
                connection.close()
        for owned in self._partitions.values():
            owned.forget()
        self._partitions.clear()
        share, self._share = self._share, None
        self._connection = self._reading = self._transactions = self._taking = None
        self._pending = ()
        self._stops = {}
        if share is not None:
            share.close()

    def _running(self) -> Transactions:
        if self._transactions is None:
            raise GivenUp("the loop has no connection")
        return self._transactions

    def _sort_in(self, records: Sequence[Record], skips: Skips) -> None:
        for record in records:
            owned = self._by_topic.get((record.topic, record.partition))
            # `operations` is read for its skips, whoever folds it.
            if owned is not None:
                owned.sort_in(record)
        self._skip(skips)

    def _fold(self, owned: Sequence[Owned]) -> int:
        started_s = time.monotonic()
        share = max(1, self._records_next // len(owned))
        offered = [one.below(self._stops.get(one.worker.key), share) for one in owned]
        jobs = [Job(one.worker, one.worker.prepare(records)) for one, records in zip(owned, offered, strict=True)]
        batch = Batch(owned, jobs, sum(map(len, offered)))
        try:
            if self._ahead is not None:
                return self._fold_ahead(self._ahead, batch)
            applied = self._running().run(jobs, self._settings.work_s_max)
        except StopsHere as stopped:
            self._stops = stopped.stops
            return 0
        count = self._folded(batch, applied)
        metrics.BATCH_SECONDS.observe(time.monotonic() - started_s)
        return count

    def _fold_ahead(self, ahead: Ahead, batch: Batch) -> int:
        """Decide a batch while the one before is written; then that is in the tables, and this is under way to them."""
        applied = ahead.decide(batch, self._settings.work_s_max)
        self._land()
        ahead.write(batch, applied)
        return batch.offered

    def _land(self) -> int:
        """See to it that nothing is under way; how many records came into the tables."""
        try:
            written = None if self._ahead is None else self._ahead.written()
        except StopsHere as stopped:
            self._stops = stopped.stops
            return 0
        return 0 if written is None else self._folded(*written)

    def _folded(self, batch: Batch, applied: Sequence[Applied]) -> int:
        """What was folded is in the tables; how many records."""
        before = sum(len(owned.backlog) for owned in batch.owned)
        left = sum([self._after(owned, done) for owned, done in zip(batch.owned, applied, strict=True)])
        count = before - left
        self._plan(batch.offered, count)
        metrics.BATCH_RECORDS.observe(count)
        metrics.VIEWS_BYTES.set(self._views.weight_bytes)
        if any(table is HALTED_ROOMS for done in applied for table, _ in done.rows.tables()):
            self._count_halted()
        return count

    def _plan(self, offered: int, count: int) -> None:
        """How many records the next batch takes: about what fits into its time, as what is left over is read anew."""
        planned = max(_RECORDS_MIN, count) if count < offered else self._records_next * 5 // 4
        self._records_next = min(self._settings.records_max, planned)

    def _after(self, owned: Owned, done: Applied) -> int:
        folded = [record for record in owned.backlog if record.offset < done.position.next_offset]
        owned.backlog = owned.backlog[len(folded) :]
        metrics.RECORDS.labels(owned.worker.key[0]).inc(len(folded))
        if done.stopped is not None:
            owned.stop(done.stopped)
            self._tail_is_old = True
            _logger.critical("partition_stopped", partition=owned.worker.key, why=done.stopped)
        return len(owned.backlog)

    def _skip(self, skips: Skips) -> None:
        """An operator skips a record: the partition that stands there goes on."""
        for owned in self._partitions.values() if skips else ():
            _, topic, number = owned.worker.key
            if owned.stopped and (topic, number, owned.worker.position.next_offset) in skips:
                owned.go_on()
                self._tail_is_old = True

    def _pass_gaps(self) -> None:
        """Where compaction took the last records, the position moves over the gap: who waits for the end must not wait
        for ever."""
        jobs = []
        positions = self._reader.positions
        for key, owned in self._partitions.items():
            was = owned.worker.position
            reached = positions.get(key[1:], 0)
            if owned.is_read and reached > was.next_offset and not owned.backlog:
                over = Position(reached, was.decisions_offset, was.marked_epoch, None)
                jobs.append(Job(owned.worker, prepared(owned.worker.passed(over))))
        if jobs:
            try:
                self._running().run(jobs)
            except StopsHere as stopped:
                self._stops = stopped.stops

    def _give_up(self, error: Exception) -> None:
        for group, _, _ in self._partitions:
            metrics.GIVEN_UP.labels(group).inc()
        if isinstance(error, GivenUp):
            # Another took what was ours: among those who share that is no fault.
            _logger.warning("partitions_given_up", partitions=len(self._partitions), why=str(error))
        else:
            _logger.error("partitions_given_up", partitions=len(self._partitions), exc_info=error)
        self.close()

    def _count_halted(self) -> None:
        if self._connection is not None:
            ours = [number for group, _, number in self._partitions if group == "rooms"]
            sql = "SELECT count(*) FROM halted_rooms WHERE partition = ANY(%s::smallint[])"
            row = self._connection.one(sql, (ours,))
            metrics.HALTED_ROOMS.set(row[0] if row else 0)

"""Taking partitions: one mechanism for start, crash, rebuild and failed commit (DESIGN.md section 5).

1. epoch above the row's own and above any mark on the decisions topic; the old owner's backend is ended
2. a mark on the decisions topic: what a lower epoch writes behind it is void
3. what was decided before the mark is folded, never decided again
4. the loop goes on behind that

old owner   ──decide──▶ append ──────────▶ commit ✗ (its row has another epoch; its backend is ended)
topic       ... decisions (epoch 4) ... │ mark 5 │ late decisions (epoch 4): void │ decisions (epoch 5)
new owner   row: epoch 5 ──▶ mark 5 ──▶ fold up to the mark ──▶ decide the rest
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log, Record
from annals.projectors.errors import GroupPartition, LogWentBack, NewerDecideVersion, Superseded
from annals.projectors.groups import GROUPS
from annals.projectors.rooms.decided import MARK_KEY, Assembler, DecidedStep
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.rooms.worker import RoomsWorker
from annals.projectors.transaction import Job, Transactions
from annals.projectors.work import Applied, Position, Prepared, hash_of, ready
from annals.rooms.machine import DECIDE_VERSION
from annals.schemas.codec import decode
from annals.schemas.facts.decisions import Mark

_logger = structlog.get_logger(__name__)

#: Steps folded in one transaction.
STEPS_MAX = 500
_TERMINATE_WAIT_MS = 5_000

_ROWS = """
SELECT group_name, topic, partition, log_id, next_offset, epoch, decisions_offset, marked_epoch, decide_version, owner,
    last_hash
FROM positions"""

# A backend is known by its pid and start: the pid alone may be somebody else's by now.
_TERMINATE = """
SELECT pg_terminate_backend(a.pid, %s)
FROM (SELECT DISTINCT p.pid, p.backend_start FROM positions p
      JOIN unnest(%s::text[], %s::text[], %s::smallint[]) AS w(group_name, topic, partition)
      USING (group_name, topic, partition)) AS o
JOIN pg_stat_activity a ON a.pid = o.pid AND a.backend_start::text = o.backend_start
WHERE a.pid <> pg_backend_pid()"""

_INSERT = """
INSERT INTO positions (group_name, topic, partition, log_id, next_offset, epoch, decisions_offset, marked_epoch,
    decide_version)
SELECT group_name, topic, partition, %s, 0, 0, 0, 0, 0
FROM unnest(%s::text[], %s::text[], %s::smallint[]) AS w(group_name, topic, partition)
ON CONFLICT DO NOTHING"""

_OWN = """
UPDATE positions p SET epoch = w.epoch, owner = %s, pid = %s, backend_start = %s, decide_version = %s
FROM unnest(%s::text[], %s::text[], %s::smallint[], %s::bigint[], %s::bigint[])
    AS w(group_name, topic, partition, was, epoch)
WHERE p.group_name = w.group_name AND p.topic = w.topic AND p.partition = w.partition AND p.epoch = w.was"""


@dataclass(frozen=True, slots=True)
class Row:
    """A position row as it stands."""

    log_id: str
    epoch: int
    decide_version: int
    owner: str | None
    position: Position


@dataclass(frozen=True, slots=True)
class Taken:
    """A partition that is ours from now on. `mark` is the offset of our mark on the decisions topic, None elsewhere."""

    key: GroupPartition
    epoch: int
    position: Position
    mark: int | None


class Taking:
    """Takes partitions for one owner, on one connection."""

    def __init__(self, connection: WriteConnection, log: Log, decisions: DecisionsLog, owner: str) -> None:
        self._connection = connection
        self._log = log
        self._decisions = decisions
        self._owner = owner

    def own(self, keys: Sequence[GroupPartition], held: Mapping[GroupPartition, int]) -> list[Taken]:
        """Steps 1 and 2. `held`: epochs under which this owner held partitions, and lost the connection.

        Raises CannotTake, with nothing taken.
        """
        columns = [list(column) for column in zip(*keys, strict=True)]
        self._connection.execute(_INSERT, (self._log.log_id, *columns))
        # Before anybody is disturbed: we may be the one who was replaced.
        self._checked_epochs(keys, held)
        self._connection.rows(_TERMINATE, (_TERMINATE_WAIT_MS, *columns))
        # The old owner may have committed once more until it ended.
        rows, epochs = self._checked_epochs(keys, held)
        self._set_epochs(rows, epochs)
        marks = self._mark(epochs)
        return [Taken(key, epochs[key], rows[key].position, marks.get(key)) for key in keys]

    def _checked_epochs(
        self, keys: Sequence[GroupPartition], held: Mapping[GroupPartition, int]
    ) -> tuple[Mapping[GroupPartition, Row], dict[GroupPartition, int]]:
        """The rows as they stand, and the epochs to take them under. Raises CannotTake."""
        rows = self._rows()
        epochs = {}
        for key in keys:
            self._check(key, rows[key])
            marked = self._highest_mark(key, rows[key])
            self._check_not_superseded(key, rows[key], marked, held.get(key))
            epochs[key] = max(rows[key].epoch, marked.epoch if marked else 0) + 1
        return rows, epochs

    def _rows(self) -> dict[GroupPartition, Row]:
        rows = {}
        for (
            group,
            topic,
            partition,
            log_id,
            offset,
            epoch,
            decided,
            marked,
            version,
            owner,
            last_hash,
        ) in self._connection.rows(_ROWS):
            position = Position(offset, decided, marked, last_hash)
            rows[group, topic, partition] = Row(log_id, epoch, version, owner, position)
        return rows

    def _check(self, key: GroupPartition, row: Row) -> None:
        group, topic, partition = key
        if row.decide_version > DECIDE_VERSION:
            raise NewerDecideVersion(
                f"{topic}[{partition}] was decided by version {row.decide_version}; this release has {DECIDE_VERSION}"
            )
        check_log(self._log, key, row)
        if group == "rooms" and row.position.decisions_offset > self._log.end(self._decisions.topic, partition):
            raise LogWentBack(self._decisions.topic, partition, "its end lies before the tables' decisions offset")

    def _highest_mark(self, key: GroupPartition, row: Row) -> Mark | None:
        group, _, partition = key
        if group != "rooms":
            return None
        marks = [
            decode(record.value)
            for record in records_between(self._log, self._decisions.topic, partition, row.position.decisions_offset)
            if record.key == MARK_KEY and record.value is not None
        ]
        return max(marks, key=lambda mark: mark.epoch, default=None)

    def _check_not_superseded(self, key: GroupPartition, row: Row, mark: Mark | None, held: int | None) -> None:
        """Who lost its connection may take again only what nobody took meanwhile: the last one started owns it."""
        if held is None:
            return
        by_row = row.epoch > held and row.owner != self._owner
        if by_row or (mark is not None and mark.epoch > held and mark.writer != self._owner):
            raise Superseded(f"{key}: taken by {row.owner if by_row else mark and mark.writer}")

    def _set_epochs(self, rows: Mapping[GroupPartition, Row], epochs: Mapping[GroupPartition, int]) -> None:
        pid, backend_start = self._connection.backend()
        claims = [(*key, rows[key].epoch, epoch) for key, epoch in epochs.items()]
        columns = [list(column) for column in zip(*claims, strict=True)]
        self._connection.begin()
        # An epoch must not be lost: two owners would have the same.
        self._connection.execute("SET LOCAL synchronous_commit = on")
        count = self._connection.execute(_OWN, (self._owner, pid, backend_start, DECIDE_VERSION, *columns))
        if count != len(claims):
            self._connection.rollback()
            raise Superseded("another process takes partitions at this moment")
        self._connection.commit()

    def _mark(self, epochs: Mapping[GroupPartition, int]) -> dict[GroupPartition, int]:
        keys = [key for key in epochs if key[0] == "rooms"]
        marks = [(key[2], Mark(epochs[key], DECIDE_VERSION, self._owner)) for key in keys]
        return dict(zip(keys, self._decisions.write_marks(marks), strict=True)) if marks else {}


def check_log(log: Log, key: GroupPartition, row: Row) -> None:
    """The tables must continue this log: its id, its end and the record before the position. Raises LogWentBack."""
    group, topic, partition = key
    offset = row.position.next_offset
    if row.log_id != log.log_id:
        raise LogWentBack(topic, partition, f"the tables belong to log {row.log_id}, this is {log.log_id}")
    end = log.end(topic, partition)
    if offset > end:
        raise LogWentBack(topic, partition, f"the tables are at {offset}, the log ends at {end}")
    if offset == 0 or row.position.last_hash is None or not GROUPS[group].kept_for_ever:
        return
    records = log.read(topic, partition, offset - 1, max_records=1)
    if not records or records[0].offset != offset - 1 or hash_of(records[0]) != row.position.last_hash:
        raise LogWentBack(topic, partition, f"the record at {offset - 1} is not the one that the tables were made from")


def records_between(log: Log, topic: str, partition: int, start: int, end: int | None = None) -> Iterator[Record]:
    """The records of a partition from `start` up to `end`, or to where the log ends now."""
    limit = log.end(topic, partition) if end is None else end
    while start < limit:
        records = log.read(topic, partition, start)
        if not records:
            return
        for record in records:
            if record.offset >= limit:
                return
            yield record
        start = records[-1].offset + 1


def decided_steps(
    records: Iterable[Record], assembler: Assembler, steps_max: int = STEPS_MAX
) -> Iterator[tuple[list[DecidedStep], int]]:
    """Steps that the assembler has not seen, some at a time, each time with the highest mark so far."""
    steps: list[DecidedStep] = []
    for record in records:
        if record.value is None:
            continue
        step = assembler.feed(record.offset, record.value)
        if step is not None:
            steps.append(step)
        if len(steps) >= steps_max:
            yield steps, assembler.marked_epoch
            steps = []
    if steps:
        yield steps, assembler.marked_epoch


def fold_decided(log: Log, decisions: DecisionsLog, worker: RoomsWorker, mark: int, transactions: Transactions) -> int:
    """Step 3: fold what was decided before our mark, without deciding; how many steps."""
    _, _, partition = worker.key
    position = worker.position
    records = records_between(log, decisions.topic, partition, position.decisions_offset, mark)
    count = 0
    for steps, marked_epoch in decided_steps(records, Assembler(position.next_offset, position.marked_epoch)):
        _run_folded(worker, worker.fold(steps, marked_epoch), transactions)
        count += len(steps)
    if count:
        _logger.info("folded_decided", partition=partition, steps=count)
    # Whatever else is before the mark is void.
    worker.position = replace(worker.position, decisions_offset=mark + 1, marked_epoch=worker.epoch)
    return count


def copy_decided(
    log: Log, source_topic: str, worker: RoomsWorker, transactions: Transactions, on_progress: Callable[[], None]
) -> int:
    """Fold another generation's decisions; what is applied goes to our own topic too, under our epoch."""
    _, _, partition = worker.key
    records = records_between(log, source_topic, partition, 0)
    count = 0
    for steps, _ in decided_steps(records, Assembler(worker.position.next_offset, 0)):
        _run_folded(worker, worker.fold(steps, worker.epoch, worker.epoch), transactions)
        count += len(steps)
        on_progress()
    return count


def _run_folded(worker: RoomsWorker, applied: Applied, transactions: Transactions) -> None:
    transactions.run([Job(worker, Prepared(applied.position, lambda _foreseen, _deadline_s: ready(applied)))])


def keys_of(log: Log, groups: Sequence[str]) -> list[GroupPartition]:
    """All partitions of some groups, in the order of GROUPS."""
    return [
        (group.name, group.topic, partition)
        for group in GROUPS.values()
        if group.name in groups
        for partition in range(log.partitions(group.topic))
    ]

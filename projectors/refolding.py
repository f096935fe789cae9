"""Folding what was decided, without deciding: step 3 of taking a partition, and a generation that copies another's.

Both go through the topic some steps at a time, a transaction each, and say after each how many there were: between
two of them the loop does what else is due.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from annals.eventlog.api import Log
from annals.projectors.rooms.decided import Assembler
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.rooms.worker import RoomsWorker
from annals.projectors.taking import decided_steps, records_between
from annals.projectors.transaction import Job, Transactions
from annals.projectors.work import Applied, Prepared, ready

_logger = structlog.get_logger(__name__)


def fold_decided(
    log: Log, decisions: DecisionsLog, worker: RoomsWorker, mark: int, transactions: Transactions
) -> Iterator[int]:
    """Fold what was decided before our mark; the numbers of steps."""
    _, _, partition = worker.key
    position = worker.position
    records = records_between(log, decisions.topic, partition, position.decisions_offset, mark)
    total = 0
    for steps, marked_epoch in decided_steps(records, Assembler(position.next_offset, position.marked_epoch)):
        _run_folded(worker, worker.fold(steps, marked_epoch), transactions)
        total += len(steps)
        yield len(steps)
    if total:
        _logger.info("folded_decided", partition=partition, steps=total)
    # Whatever else is before the mark is void.
    worker.position = replace(worker.position, decisions_offset=mark + 1, marked_epoch=worker.epoch)


@dataclass(frozen=True, slots=True)
class Copied:
    """How far a copy has come: the source's decisions below `source_offset` are those of the facts below `next_offset`.

    `marked_epoch` is the highest mark among them.
    """

    next_offset: int
    source_offset: int
    marked_epoch: int


class CopyCursors(Protocol):
    """Where copies say how far they are, by partition. What is lost is copied through again."""

    def load(self, partition: int) -> Copied | None: ...

    def save(self, partition: int, copied: Copied) -> None: ...


def copy_decided(
    log: Log, source_topic: str, worker: RoomsWorker, transactions: Transactions, cursors: CopyCursors
) -> Iterator[int]:
    """Fold another generation's decisions; what is applied goes to our own topic too, under our epoch."""
    _, _, partition = worker.key
    start = cursors.load(partition)
    # Tables that a crash set back are behind the cursor: then it says nothing.
    if start is None or start.next_offset > worker.position.next_offset:
        start = Copied(0, 0, 0)
    records = records_between(log, source_topic, partition, start.source_offset)
    assembler = Assembler(worker.position.next_offset, start.marked_epoch)
    for steps, marked_epoch in decided_steps(records, assembler):
        _run_folded(worker, worker.fold(steps, worker.epoch, worker.epoch), transactions)
        cursors.save(partition, Copied(worker.position.next_offset, steps[-1].end, marked_epoch))
        yield len(steps)


def _run_folded(worker: RoomsWorker, applied: Applied, transactions: Transactions) -> None:
    transactions.run([Job(worker, Prepared(applied.position, lambda _foreseen, _deadline_s: ready(applied)))])

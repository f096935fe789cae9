"""Folding what was decided, without deciding: step 3 of taking a partition, and a generation that copies another's.

Both go through the topic some steps at a time, a transaction each, and say after each how many there were: between
two of them the loop does what else is due.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from annals.eventlog.api import Log
from annals.eventlog.reading import records_between
from annals.projectors.rooms.decided import Assembler, DecidedStep, decided_steps
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.rooms.worker import Folded, RoomsWorker
from annals.projectors.transaction import Job, Transactions
from annals.projectors.work import Applied, prepared

#: Steps of a copy's transaction; those of a partition that is taken are fewer, as others wait meanwhile.
COPIED_STEPS_MAX = 2_000

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
        _run(worker, worker.applied(worker.fold(steps), marked_epoch, is_copy=False), transactions)
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
    log: Log, source_topic: str, workers: Sequence[RoomsWorker], transactions: Transactions, cursors: CopyCursors
) -> Iterator[int]:
    """Fold another generation's decisions; what is applied goes to our own topic too, under our epoch.

    While the rows of some steps are written, in a thread of their own, the next ones are folded, be they another
    partition's. Between two of these transactions, when the loop has its turn, none is under way.
    """

    def write(worker: RoomsWorker, folded: Folded, marked_epoch: int) -> tuple[int, int, Copied]:
        _run(worker, worker.applied(folded, worker.epoch, is_copy=True), transactions)
        return worker.key[2], folded.steps, Copied(worker.position.next_offset, folded.last.end, marked_epoch)

    def written(writing: Future[tuple[int, int, Copied]]) -> int:
        partition, steps, copied = writing.result()
        cursors.save(partition, copied)
        return steps

    writing: Future[tuple[int, int, Copied]] | None = None
    with ThreadPoolExecutor(1, "replay-writer") as writer:
        for worker in workers:
            for steps, marked_epoch in _not_copied(log, source_topic, worker, cursors):
                folded = worker.fold(steps, worker.epoch)
                if writing is not None:
                    yield written(writing)
                writing = writer.submit(write, worker, folded, marked_epoch)
        if writing is not None:
            yield written(writing)


def _not_copied(
    log: Log, source_topic: str, worker: RoomsWorker, cursors: CopyCursors
) -> Iterator[tuple[list[DecidedStep], int]]:
    """The steps of a partition that its worker does not have, some at a time, as `decided_steps` gives them."""
    _, _, partition = worker.key
    start = cursors.load(partition)
    # Tables that a crash set back are behind the cursor: then it says nothing.
    if start is None or start.next_offset > worker.position.next_offset:
        start = Copied(0, 0, 0)
    records = records_between(log, source_topic, partition, start.source_offset)
    return decided_steps(records, Assembler(worker.position.next_offset, start.marked_epoch), COPIED_STEPS_MAX)


def _run(worker: RoomsWorker, applied: Applied, transactions: Transactions) -> None:
    transactions.run([Job(worker, prepared(applied))])

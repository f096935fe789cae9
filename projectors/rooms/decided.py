"""Whole steps out of the records of a decisions topic.

Void, and left out, are: records of a lower epoch than the highest mark before them (their writer had lost the
partition), stream positions that were seen, and a step that was left incomplete before a mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from annals.eventlog.api import Record
from annals.matrix.quick import quick
from annals.projectors.errors import TornDecisions
from annals.schemas.codec import decode
from annals.schemas.facts.decisions import Decision, DecisionPart, Mark
from annals.schemas.parts import Joiner
from annals.schemas.position import offset_of, ordinal_of, step_start

MARK_KEY = b"mark"
"""The record key of marks (annals.schemas.records); those of decisions have the room id."""
#: What is folded in one transaction: steps, and bytes of their decisions.
STEPS_MAX = 500
STEP_BYTES_MAX = 2 << 20


@quick
@dataclass(frozen=True, slots=True)
class DecidedStep:
    """A step as it was decided. `end` is the decisions topic's offset after its last record; `values` are the decisions
    as they stand there, those in parts put together."""

    offset: int
    decisions: tuple[Decision, ...]
    end: int
    values: tuple[bytes, ...] = ()


class Assembler:
    """Feed it the records of one partition, in order, from a position between steps.

    `next_offset` is the first step not seen yet, `marked_epoch` the highest mark before the first record.
    """

    def __init__(self, next_offset: int, marked_epoch: int) -> None:
        self.next_offset = next_offset
        self.marked_epoch = marked_epoch
        self._pending: list[Decision] = []
        self._values: list[bytes] = []
        self._parts = Joiner()

    def feed(self, record_offset: int, value: bytes) -> DecidedStep | None:
        """The step that this record completes, if any."""
        record: Mark | Decision | DecisionPart = decode(value)
        if isinstance(record, Decision):
            return None if record.epoch < self.marked_epoch else self._decision(record_offset, record, value)
        if isinstance(record, Mark):
            self._mark(record.epoch)
            return None
        if record.epoch < self.marked_epoch:
            return None
        whole = self._parts.add(record)
        return None if whole is None else self._decision(record_offset, decode(whole), whole)

    def _mark(self, epoch: int) -> None:
        if epoch > self.marked_epoch:
            self.marked_epoch = epoch
            self._pending.clear()
            self._values.clear()
            self._parts.reset()

    def _decision(self, record_offset: int, record: Decision, value: bytes) -> DecidedStep | None:
        offset = offset_of(record.position)
        if offset < self.next_offset:
            return None
        if record.last_of_step and not self._pending and record.position == step_start(offset):
            # Nearly every step is one decision.
            if record.epoch > self.marked_epoch:
                raise _without_mark(record, offset)
            self.next_offset = offset + 1
            return DecidedStep(offset, (record,), record_offset + 1, (value,))
        self._check(record, offset)
        self._pending.append(record)
        self._values.append(value)
        if not record.last_of_step:
            return None
        step = DecidedStep(offset, tuple(self._pending), record_offset + 1, tuple(self._values))
        self._pending.clear()
        self._values.clear()
        self.next_offset = offset + 1
        return step

    def _check(self, record: Decision, offset: int) -> None:
        if record.epoch > self.marked_epoch:
            raise _without_mark(record, offset)
        if ordinal_of(record.position) != len(self._pending):
            raise TornDecisions(f"step {offset}: ordinal {ordinal_of(record.position)} after {len(self._pending)}")
        if self._pending and offset_of(self._pending[0].position) != offset:
            raise TornDecisions(f"step {offset} begins within another")


def _without_mark(record: Decision, offset: int) -> TornDecisions:
    return TornDecisions(f"epoch {record.epoch} decides without a mark, at {offset}")


def decided_steps(
    records: Iterable[Record], assembler: Assembler, steps_max: int = STEPS_MAX
) -> Iterator[tuple[list[DecidedStep], int]]:
    """Steps that the assembler has not seen, some at a time, each time with the highest mark so far."""
    steps: list[DecidedStep] = []
    size_bytes = 0
    for record in records:
        if record.value is None:
            continue
        step = assembler.feed(record.offset, record.value)
        size_bytes += len(record.value)
        if step is not None:
            steps.append(step)
        if len(steps) >= steps_max or (steps and size_bytes >= STEP_BYTES_MAX):
            yield steps, assembler.marked_epoch
            steps, size_bytes = [], 0
    if steps:
        yield steps, assembler.marked_epoch

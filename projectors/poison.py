"""Records that cannot be decoded: they stop their partition, until an operator skips them by a fact in `operations`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.filler import is_filler
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.operations import UndecodableSkipped

OPERATIONS: TopicPartition = ("operations", 0)
"""Every process reads it to its end at start, and follows it."""

Skips = set[tuple[str, int, int]]
"""(topic, partition, offset) of records that an operator skipped."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record with its fact; None for a tombstone or filler, and for a record that is skipped."""

    record: Record
    fact: Any

    @property
    def is_tombstone(self) -> bool:
        """Whether the record says that its key is gone (a filler says nothing)."""
        return self.record.value is None and not is_filler(self.record)


def decoded(records: Sequence[Record], skips: Skips) -> tuple[list[Decoded], str | None]:
    """The records up to the first that cannot be decoded, and what is wrong with that one."""
    facts: list[Decoded] = []
    for record in records:
        if record.value is None or (record.topic, record.partition, record.offset) in skips:
            facts.append(Decoded(record, None))
            continue
        try:
            facts.append(Decoded(record, decode(record.value)))
        except Undecodable as error:
            return facts, f"{record.topic}[{record.partition}] {record.offset} cannot be decoded: {error}"
    return facts, None


def skips_in(records: Sequence[Record]) -> Skips:
    """The skips among records of `operations`."""
    skips: Skips = set()
    for record in records:
        if record.topic != OPERATIONS[0] or record.value is None:
            continue
        try:
            fact = decode(record.value)
        except Undecodable:
            continue  # it stops its own partition, where it is reported
        if isinstance(fact, UndecodableSkipped):
            skips.add((fact.topic, fact.partition, fact.offset))
    return skips

"""What operators write to the log: their commands, each with who, why and a request id, before anything is done."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from annals.eventlog.api import Append, Log
from annals.eventlog.partition import partition_of
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.records import Addressed, record_of
from annals.schemas.registry import TOPIC as SCHEMAS
from annals.schemas.registry import SchemaBook


@dataclass(frozen=True, slots=True)
class Operating:
    """Appends an operator's facts. `request_id` joins the facts of one command."""

    log: Log
    clock: Callable[[], int]
    version: str
    request_id: str

    def envelope(self, *, is_cause: bool = False) -> Envelope:
        """The envelope of a fact of this command; `is_cause` for the one that the others answer."""
        if is_cause:
            return Envelope(self.clock(), "audit", self.version, None, self.request_id)
        return Envelope(self.clock(), "audit", self.version, self.request_id)

    def append(self, facts: Sequence[Fact]) -> list[tuple[str, int, int]]:
        """Append the facts, in one call, and wait for the disk; (topic, partition, offset) of each."""
        records = [record_of(fact) for fact in facts]
        self._announce(records)
        appends = [self._placed(record) for record in records]
        offsets = self.log.append(appends).result()
        return [(made.topic, made.partition, offset) for made, offset in zip(appends, offsets, strict=True)]

    def _announce(self, records: Sequence[Addressed]) -> None:
        """A schema is on the log, acknowledged, before its first use."""
        book, offset = SchemaBook(), 0
        while read := self.log.read(SCHEMAS, 0, offset):
            for record in read:
                book.take(record.key, record.value)
            offset = read[-1].offset + 1
        missing = book.missing(record.value for record in records)
        if missing:
            self.log.append([Append(SCHEMAS, 0, record.record_key, record.value) for record in missing]).result()

    def _placed(self, record: Addressed) -> Append:
        partition = record.partition
        if partition is None:
            partition = partition_of(record.partition_key, self.log.partitions(record.topic))
        return Append(record.topic, partition, record.record_key, record.value)


def operating(log: Log, clock: Callable[[], int], version: str) -> Operating:
    """One command of an operator, under a new request id."""
    return Operating(log, clock, version, f"command-{secrets.token_hex(8)}")

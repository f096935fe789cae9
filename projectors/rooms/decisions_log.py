"""Writing to the decisions topic of a generation: decisions, and the marks by which partitions are taken."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from annals.eventlog.api import Append, Log
from annals.schemas.facts.decisions import Decision, Mark
from annals.schemas.records import record_of_mark, values_of_decision
from annals.schemas.registry import TOPIC as SCHEMAS
from annals.schemas.registry import SchemaBook
from annals.schemas.topics import decisions_topic


class DecisionsLog:
    """The decisions of one generation. A schema is on the log, acknowledged, before a record that needs it."""

    def __init__(self, log: Log, generation: str) -> None:
        self.topic = decisions_topic(generation).name
        self.generation = generation
        self._log = log
        self._schemas = SchemaBook()
        self._schemas_read = 0

    def encoded(self, decision: Decision) -> list[bytes]:
        """The records of a decision: several where it is too large for one."""
        return values_of_decision(decision)

    def append(self, partition: int, values: Sequence[tuple[bytes, bytes]]) -> list[Append]:
        """The appends of (room id, record) pairs, in order."""
        return [Append(self.topic, partition, key, value) for key, value in values]

    def write(self, appends: Sequence[Append]) -> Future[list[int]]:
        """Append; done when on disk."""
        self._write_schemas(appends)
        return self._log.append(appends)

    def write_here(self, appends: Sequence[Append]) -> list[int]:
        """Append, on this thread where the log lets it; their offsets."""
        self._write_schemas(appends)
        return self._log.append_here(appends)

    def write_marks(self, marks: Sequence[tuple[int, Mark]]) -> list[int]:
        """Append (partition, mark) pairs and wait; their offsets."""
        appends = []
        for partition, mark in marks:
            record = record_of_mark(mark, self.generation, partition)
            appends.append(Append(record.topic, partition, record.record_key, record.value))
        return self.write(appends).result()

    def _write_schemas(self, appends: Sequence[Append]) -> None:
        values = [append.value for append in appends]
        if not self._schemas.missing(values):
            return
        self._read_schemas()
        missing = self._schemas.missing(values)
        records = [Append(SCHEMAS, 0, record.record_key, record.value) for record in missing]
        if records:
            self._log.append(records).result()
        for record in records:
            self._schemas.take(record.key, record.value)

    def _read_schemas(self) -> None:
        while records := self._log.read(SCHEMAS, 0, self._schemas_read):
            for record in records:
                self._schemas.take(record.key, record.value)
                self._schemas_read = record.offset + 1

"""From facts to their outcome: append → offsets → wait until the tables have them → read.

    submitted = await appender.submit([fact, …])     # on disk
    await appender.settle(submitted)                 # the tables have them
    outcome = await database.read(…)                 # a row whose `source` is submitted.offset(0) is mine

Everything that commands write goes this way. A time-out, a full queue or a log that cannot be written is an exception
of `errors.NOT_NOW`, which the API answers with 503; facts may be on the log all the same, so each command must be safe
to repeat: by an idempotency key, or since its outcome is decided by log order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from annals.eventlog.api import Append, Log, TopicPartition
from annals.eventlog.errors import LogWentBack
from annals.eventlog.partition import partition_of
from annals.projectors.positions.errors import LogBehindTables, TryAgain
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.records import Addressed, record_of
from annals.schemas.registry import SchemaBook

_logger = structlog.get_logger(__name__)

SETTLE_WAIT_S = 10.0


class Reached(Protocol):
    """Waits for the tables of the serving generation (projectors.positions has it)."""

    @property
    def known(self) -> Mapping[TopicPartition, int]:
        """Next offsets of the tables, as far as this process has heard."""
        ...

    def reached(self, vector: Mapping[TopicPartition, int], timeout_s: float) -> Awaitable[bool]:
        """True once everything below these offsets is in the tables, False when the time ran out."""
        ...


@dataclass(frozen=True, slots=True)
class Submitted:
    """Where facts stand on the log, in the order in which they were given."""

    at: tuple[tuple[str, int, int], ...]
    """(topic, partition, offset) of each."""

    def offset(self, index: int = 0) -> int:
        """The offset of one of the facts: the `source` of the rows that it makes."""
        return self.at[index][2]

    def vector(self) -> dict[TopicPartition, int]:
        """The position behind all of them: the next offset to read, by topic and partition."""
        vector: dict[TopicPartition, int] = {}
        for topic, partition, offset in self.at:
            vector[topic, partition] = max(offset + 1, vector.get((topic, partition), 0))
        return vector


@dataclass(slots=True)
class Appender:
    """Writes facts to the log and waits for the tables; one a process.

    `clock` gives milliseconds since 1970. `writer` and `version` say in each fact who wrote it. `book` knows which
    schemas the log has; one that has read the topic `schemas` saves their being written again. `wait_s`: how long the
    tables have to reach a fact, where the caller does not say.
    """

    log: Log
    waiter: Reached
    clock: Callable[[], int]
    version: str
    writer: str = "api"
    book: SchemaBook = field(default_factory=SchemaBook)
    wait_s: float = SETTLE_WAIT_S
    _set_back: str | None = field(default=None, init=False)

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        """The envelope of a fact made now. `cause` is the request's id, or the fact ("topic/partition/offset") that
        this one answers; `idempotency_key` makes later facts of the partition with the same key its duplicates."""
        return Envelope(self.clock(), self.writer, self.version, cause, idempotency_key)

    async def submit(self, facts: Sequence[Fact]) -> Submitted:
        """Append the facts, in one call; returns when they are on disk. Raises what `errors.NOT_NOW` lists."""
        return await self.submit_records([record_of(fact) for fact in facts])

    async def submit_records(self, records: Sequence[Addressed]) -> Submitted:
        """The same for records that are encoded already (a builder encodes off the event loop), or that erase."""
        if self._set_back is not None:
            raise LogBehindTables(self._set_back)
        try:
            return await self._submit(records)
        except LogWentBack as error:
            # The log has found by itself that it is not what it was, maybe before we were given any offset.
            self._set_back = str(error)
            _logger.critical("log_went_back", error=str(error))
            raise LogBehindTables(self._set_back) from error

    async def _submit(self, records: Sequence[Addressed]) -> Submitted:
        # A schema goes to the log, acknowledged, before its first use: the log describes itself.
        schemas = self.book.missing(record.value for record in records)
        if schemas:
            await asyncio.wrap_future(self.log.append([self._append(schema) for schema in schemas]))
            for schema in schemas:
                self.book.take(schema.record_key, schema.value)
        appends = [self._append(record) for record in records]
        # Before the append: what is in the tables by now lies below the log's end, and so below what we are given.
        known = {(made.topic, made.partition): self._known(made.topic, made.partition) for made in appends}
        offsets = await asyncio.wrap_future(self.log.append(appends))
        submitted = Submitted(
            tuple((made.topic, made.partition, offset) for made, offset in zip(appends, offsets, strict=True))
        )
        self._check_not_set_back(submitted, known)
        return submitted

    async def settle(self, submitted: Submitted, timeout_s: float | None = None) -> None:
        """Wait until the tables have the facts; raises TryAgain when the time runs out."""
        if not await self.waiter.reached(submitted.vector(), self.wait_s if timeout_s is None else timeout_s):
            raise TryAgain("the tables did not reach the fact in time")

    async def settle_all(self, topic: str, partition_key: str) -> None:
        """Wait until the tables have all that is on the log by now in the partition of a key. Raises what
        `errors.NOT_NOW` lists."""
        partition = partition_of(partition_key, self.log.partitions(topic))
        ends = await asyncio.to_thread(self.log.ends, topic)
        await self.settle(Submitted(((topic, partition, ends[partition] - 1),)))

    async def submit_and_settle(self, facts: Sequence[Fact], timeout_s: float | None = None) -> Submitted:
        """Both, for commands that only read what came of it."""
        submitted = await self.submit(facts)
        await self.settle(submitted, timeout_s)
        return submitted

    def _known(self, topic: str, partition: int) -> int:
        return self.waiter.known.get((topic, partition), 0)

    def _check_not_set_back(self, submitted: Submitted, known: Mapping[TopicPartition, int]) -> None:
        """Tables never have what the log has not: an offset below theirs means that the log was set back."""
        for topic, partition, offset in submitted.at:
            if offset < known[topic, partition]:
                self._set_back = (
                    f"{topic}[{partition}] was set back to {offset}; the tables are at {known[topic, partition]}"
                )
                _logger.critical("log_behind_tables", topic=topic, partition=partition, offset=offset)
                raise LogBehindTables(self._set_back)

    def _append(self, record: Addressed) -> Append:
        partition = record.partition
        if partition is None:
            partition = partition_of(record.partition_key, self.log.partitions(record.topic))
        return Append(record.topic, partition, record.record_key, record.value)

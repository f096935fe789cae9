"""The contract of a log: what `embedded/` and any other back-end promise.

Offsets are counted per topic and partition from 0, without gaps when written; compaction and retention leave gaps. An
offset in a position, an `end` or a `read` is always *the next one to read*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from annals.schemas.topics import TopicSpec

TopicPartition = tuple[str, int]

# DESIGN.md section 2: a record is at most 64 KiB and a small envelope; the rest is room for what JSON and Avro add.
MAX_RECORD_BYTES = 128 * 1024


class Record(NamedTuple):
    """One record as it stands on the log. A value of None is a tombstone.

    A named tuple, not a dataclass: a reader makes hundreds of thousands a second.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None


class Append(NamedTuple):
    """A record to be written. A value of None is a tombstone: compacted topics forget the key."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


class Tail(Protocol):
    """Follows some partitions. Used by one thread at a time; `wake` may come from any."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """Next offset to read, by partition. It moves over gaps too, so it does reach `Log.end`."""

    def poll(self, timeout_s: float | None, max_records: int = 1000) -> list[Record]:
        """What is there, at once, in turn from all partitions; each partition's records are together and in order.

        Where nothing is there, waits for an append by any process. Empty after `timeout_s` (None: no limit) or `wake`.
        With `timeout_s` 0, "there" is at least what lay below the ends when the tail was made (of a partition that was
        sought: then), and what this handle's appends were acknowledged for. What another process has appended since
        may be on its way, on Kafka: who must have all compares `positions` with `Log.ends`. Raises LogWentBack.
        """

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """Goes on from `offset` in one of the partitions. Raises PositionBeyondEnd."""

    def wake(self) -> None:
        """Makes the running `poll`, or the next one, return without waiting."""

    def fileno(self) -> int:
        """For `loop.add_reader`: readable when an append came. Then call `poll(0)` until it returns nothing."""

    def close(self) -> None: ...


class Membership(Protocol):
    """A process's place among those that share the partitions of some topics. Used by one thread at a time.

    What is assigned is a hint about whose turn it is, never a permission: a stalled process learns late that it lost
    a partition. The fence is the position row (DESIGN.md section 5).
    """

    @property
    def shared(self) -> bool:
        """Whether others may hold partitions beside us. False: one process holds all, the last one that joined."""

    def poll(self, timeout_s: float = 0.0) -> frozenset[TopicPartition]:
        """What is ours from now on. Call it between batches, at least every few seconds: it is our sign of life.

        Whoever calls it must have finished with what it had before: what is missing from the answer may be another's
        at once. Returns early when the answer changes. Raises LogUnavailable where our place is
        lost for good: join anew.
        """

    def close(self) -> None:
        """Leave: what was ours is given to the others at once."""


class Log(Protocol):
    """An append-only log of topics and partitions. All methods may be called from any thread."""

    @property
    def log_id(self) -> str:
        """Random, made once with the log. Positions of one log mean nothing in another."""

    def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Makes what is missing. Raises TopicsDiffer, with nothing made, where one exists but differs."""

    def check_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Raises TopicsDiffer where one is missing or differs. Makes nothing."""

    def partitions(self, topic: str) -> int:
        """Their number: fixed for the log's life. Raises UnknownTopic."""

    def append(self, records: Sequence[Append]) -> Future[list[int]]:
        """Writes the records; the future gives their offsets in call order, once they are on disk.

        Order: calls of one thread, and records of one call, keep their order within a partition.
        Atomic on the embedded log: all records of a call, or none. Kafka promises a prefix a partition only, so code
        above must be right with either (idempotency keys).
        Raises at once, with nothing queued: BackPressure, RecordTooLarge, UnknownTopic, LogClosed.
        The future raises AppendFailed. Its callbacks run on the appender's thread: they must not block.
        """

    def append_here(self, records: Sequence[Append]) -> list[int]:
        """The same for who waits for it: their offsets, or what `append` and its future raise.

        Where the calling thread can write them itself it does: the way to the appender's thread and back costs more
        than a small commit.
        """

    def read(
        self, topic: str, partition: int, offset: int, max_records: int = 1000, max_bytes: int = 8 << 20
    ) -> list[Record]:
        """Records from `offset` on: at least one where there is one, whatever its size. Empty at the end.

        Raises PositionBeyondEnd for an offset above `end`.
        """

    def end(self, topic: str, partition: int) -> int:
        """The next offset to be written; everything below it is on disk."""

    def ends(self, topic: str) -> list[int]:
        """`end` of all partitions of a topic, read at one moment."""

    def tail(self, positions: Mapping[TopicPartition, int]) -> Tail:
        """Follows these partitions from these offsets. Raises PositionBeyondEnd."""

    def join(self, group: str, topics: Sequence[str]) -> Membership:
        """Share these topics' partitions with the other members of `group`, as the log's coordinator spreads them."""

    def wait_for(self, topic: str, partition: int, offset: int, timeout_s: float) -> bool:
        """Waits until `end` has reached `offset`. False when the time ran out."""

    def compact(self, topic: str, now_ms: int | None = None) -> int:
        """Applies the topic's compaction and retention as of `now_ms` (None: the log's clock).

        Compaction keeps the last record of each key, and a tombstone for `TopicSpec.delete_retention_ms`. Retention
        removes what was appended more than `retention_ms` ago. Gives the number of records removed; a back-end whose
        broker does this by itself gives 0.
        """

    def close(self) -> None:
        """Writes what is queued, then ends. Later calls raise LogClosed."""

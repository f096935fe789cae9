"""What passes between the loop and a partition's worker.

A worker's work on a batch is a generator: it yields what it lacks (`Wants`), is sent the answers, and returns what
shall be written (`Applied`). So the loop loads for all partitions at once, and the work does no I/O on the database.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from sqlalchemy import Table

from annals.database.rows import Row, Rows
from annals.eventlog.api import Append, Record
from annals.projectors.errors import GroupPartition
from annals.projectors.folding import Touch
from annals.projectors.moved import Moved
from annals.rooms.needs import Loaded, Needs
from annals.schemas.facts.rooms import RoomFact


@dataclass(frozen=True, slots=True)
class Position:
    """What moves with every batch in a partition's position row (annals.projectors.positions.tables)."""

    next_offset: int
    decisions_offset: int
    marked_epoch: int
    last_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Wants:
    """What a partition's work lacks; `fact_at` reads the partition's log where a fact is wanted."""

    rooms: Needs | None = None
    touches: frozenset[Touch] = frozenset()
    fact_at: Callable[[int], RoomFact] | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to `Wants`."""

    rooms: Mapping[str, Loaded] = field(default_factory=dict)
    rows: Mapping[Table, Sequence[Row]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch amounts to. `commit` is called once it is in the tables.

    `decisions` go to the log before the commit. `stopped` says why the partition goes no further, if it does not.
    """

    position: Position
    rows: Rows
    moved: Moved
    steps: int
    decisions: Sequence[Append] = ()
    stopped: str | None = None
    commit: Callable[[int | None], None] = lambda decisions_end: None
    rest: Callable[[], Generator[Wants, Answers, Rows]] | None = None
    """What is left to do with the tables at hand: its rows come to the others."""


Work = Generator[Wants, Answers, Applied]
TimeIsUp = Callable[[], bool]


def ready(applied: Applied) -> Work:
    """Work that lacks nothing, or only what its `rest` asks for."""
    if applied.rest is not None:
        applied.rows.merge((yield from applied.rest()))
    return applied


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch before it is worked on.

    `planned` is the position after all of it: what is claimed at first. `foresee` is what is likely lacked, to be
    asked for while the position is taken. `work` takes the answers to that, and what says that the time is up: then the
    first of the records are enough.
    """

    planned: Position
    work: Callable[[Mapping[str, Loaded], TimeIsUp], Work]
    foresee: Needs | None = None


def prepared(applied: Applied) -> Prepared:
    """What is worked out already, as a batch of a transaction."""
    return Prepared(applied.position, lambda _foreseen, _time_is_up: ready(applied))


class Worker(Protocol):
    """The owner's memory of one partition."""

    @property
    def key(self) -> GroupPartition: ...

    @property
    def epoch(self) -> int: ...

    @property
    def position(self) -> Position: ...

    def prepare(self, records: Sequence[Record]) -> Prepared:
        """Look at a batch before it is worked on."""

    def passed(self, position: Position) -> Applied:
        """Move to `position` over offsets at which nothing is left."""

    def forget(self) -> None:
        """The transaction did not happen, or the partition is lost: nothing in memory is true."""


def hash_of(record: Record) -> bytes:
    """What tells a record from one that took its place: SHA-256 over key and value."""
    return sha256(len(record.key).to_bytes(4, "big") + record.key + (record.value or b"")).digest()

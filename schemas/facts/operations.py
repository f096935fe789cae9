"""Facts of topic `operations` (one partition): what operators did and what the log was made for."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact


@dataclass(frozen=True, slots=True)
class PartitionCount:
    """How many partitions a topic has, for the log's life."""

    topic: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Genesis(Fact):
    """The log's first fact: for whom it is. The first one wins; a server of another name refuses the log."""

    server_name: str
    log_id: str
    partition_counts: tuple[PartitionCount, ...]


@dataclass(frozen=True, slots=True)
class GenerationCreated(Fact):
    """`mode`: serve (the first one), fold or recompute."""

    generation: str
    mode: str


@dataclass(frozen=True, slots=True)
class GenerationDropped(Fact):
    """The generation's tables are gone; its decisions stay on the log, and its name is not used again."""

    generation: str
    actor: str


@dataclass(frozen=True, slots=True)
class StoodAt:
    """How far a partition was: the next offset to read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class GenerationSwitched(Fact):
    """From here on `generation` answers readers, and no more `previous`. Both had the log exactly up to `positions`.

    `rooms` counts those that get a `RoomRebuilt`. `switch` is what those name.
    """

    switch: str
    generation: str
    previous: str
    positions: tuple[StoodAt, ...]
    rooms: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class UndecodableSkipped(Fact):
    """An operator skips a record that cannot be decoded."""

    topic: str
    partition: int
    offset: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class AdminCommanded(Fact):
    """An operator's command, for audit. `arguments` is JSON."""

    actor: str
    command: str
    arguments: bytes
    reason: str

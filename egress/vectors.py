"""Cursors over the partitions of one topic: for each the next stream position to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from annals.projectors.positions.read import vector_of
from annals.schemas.position import step_start

ROOMS = "rooms"

#: By partition number, the stream position below which all is done.
Vector = tuple[int, ...]


def tables_end(positions: Iterable[Sequence[Any]], topic: str) -> Vector:
    """How far the tables of a snapshot are (`Snapshot.positions`)."""
    return topic_end(vector_of(positions), topic)


def topic_end(offsets: Mapping[tuple[str, int], int], topic: str) -> Vector:
    """The part of a vector of offsets that is about one topic, as stream positions."""
    found = {partition: offset for (name, partition), offset in offsets.items() if name == topic}
    return tuple(step_start(found.get(partition, 0)) for partition in range(1 + max(found, default=-1)))


def later(one: Vector, other: Vector) -> Vector:
    """Of each partition, the later one: a cursor never goes back."""
    length = max(len(one), len(other))
    pairs = zip(_filled(one, length), _filled(other, length), strict=True)
    return tuple(max(pair) for pair in pairs)


def advanced(vector: Vector, partition: int, position: int) -> Vector:
    """The cursor behind what stands at a stream position."""
    if position < vector[partition]:
        return vector
    return (*vector[:partition], position + 1, *vector[partition + 1 :])


def is_below(vector: Vector, partition: int, position: int) -> bool:
    """Whether a stream position lies below the vector."""
    return partition < len(vector) and position < vector[partition]


def _filled(vector: Vector, length: int) -> Vector:
    return vector + (0,) * (length - len(vector))

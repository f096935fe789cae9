"""The shape of a fact, read from its dataclass: what the codec, the drafts of schemas and the plain form are made from.

A dataclass says with type hints what its .avsc says with Avro types:

    int           long                      bytes     bytes
    str           string                    bool      boolean
    tuple[T, ...] array of T                T | None  union of null and T
    a dataclass   record of its name        bytes | Sealed (Sealable)  union of bytes and the record
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

NAMESPACE = "annals"
_PRIMITIVES = {int: "long", str: "string", bytes: "bytes", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Primitive:
    """`avro` is long, string, bytes or boolean."""

    avro: str


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """A tuple of any length."""

    item: Shape


@dataclass(frozen=True, slots=True)
class UnionOf:
    """One of `branches`; where `optional`, null is a further one that stands first."""

    branches: tuple[Shape, ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class RecordOf:
    """The dataclass `cls`, known to Avro as `name` (with namespace)."""

    cls: type
    name: str
    fields: tuple[FieldOf, ...]


@dataclass(frozen=True, slots=True)
class FieldOf:
    """One field; `default` is `dataclasses.MISSING` where it has none."""

    name: str
    shape: Shape
    default: Any


Shape = Primitive | ArrayOf | UnionOf | RecordOf


@cache
def shape_of(cls: type) -> RecordOf:
    """The shape of the dataclass `cls`. TypeError where a hint has no Avro type."""
    hints = typing.get_type_hints(cls)
    fields = []
    for field in dataclasses.fields(cls):
        try:
            fields.append(FieldOf(field.name, _shape(hints[field.name]), field.default))
        except TypeError as error:
            raise TypeError(f"{cls.__name__}.{field.name}: {error}") from error
    return RecordOf(cls, f"{namespace_of(cls)}.{cls.__name__}", tuple(fields))


def topic_of(cls: type) -> str:
    """The topic of a fact is the name of its module: `annals.schemas.facts.rooms` has those of `rooms`."""
    return cls.__module__.rpartition(".")[2]


def namespace_of(cls: type) -> str:
    """The Avro namespace: one a topic, and a common one for what every topic uses (envelope, sealed fields)."""
    topic = topic_of(cls)
    return NAMESPACE if topic == "envelope" else f"{NAMESPACE}.{topic}"


def _shape(hint: Any) -> Shape:
    if hint in _PRIMITIVES:
        return Primitive(_PRIMITIVES[hint])
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return shape_of(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return ArrayOf(_shape(arguments[0]))
    if origin in (types.UnionType, typing.Union):
        branches = tuple(_shape(argument) for argument in arguments if argument is not types.NoneType)
        return UnionOf(branches, len(branches) < len(arguments))
    raise TypeError(f"no Avro type for {hint!r}")

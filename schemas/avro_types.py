"""From the shape of a dataclass to the Avro schema that it must have."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from annals.schemas.shapes import ArrayOf, FieldOf, Primitive, RecordOf, Shape, UnionOf, shape_of


def schema_of(cls: type) -> dict[str, Any]:
    """The Avro schema of a fact's dataclass, with its documentation and its defaults."""
    schema = _type(shape_of(cls), set())
    assert isinstance(schema, dict)
    return schema


def _type(shape: Shape, named: set[str]) -> Any:
    match shape:
        case Primitive(avro):
            return avro
        case ArrayOf(item):
            return {"type": "array", "items": _type(item, named)}
        case UnionOf(branches, optional):
            return (["null"] if optional else []) + [_type(branch, named) for branch in branches]
        case RecordOf(cls, name, fields):
            if name in named:
                return name
            named.add(name)
            namespace, _, short = name.rpartition(".")
            return {
                "type": "record",
                "name": short,
                "namespace": namespace,
                "doc": inspect.cleandoc(cls.__doc__ or ""),
                "fields": [_field(field, named) for field in fields],
            }


def _field(field: FieldOf, named: set[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": field.name, "type": _type(field.shape, named)}
    # An optional field gets a default even where the dataclass asks for a value: a later version may then drop it.
    if isinstance(field.shape, UnionOf) and field.shape.optional:
        entry["default"] = None
    elif field.default is not dataclasses.MISSING:
        entry["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    elif isinstance(field.shape, ArrayOf):
        entry["default"] = []
    return entry

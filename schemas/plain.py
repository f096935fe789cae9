"""A fact as the dicts, lists and scalars that Avro libraries take: for old versions, examples and people's eyes.

Not on a hot path: the codec turns facts into bytes and back without this form.
"""

from __future__ import annotations

from typing import Any

from annals.schemas.errors import Undecodable
from annals.schemas.shapes import ArrayOf, Primitive, RecordOf, Shape, UnionOf, shape_of


def to_plain(fact: Any) -> dict[str, Any]:
    """The fact as a dict; records within it as dicts, tuples as lists."""
    plain = _plain(fact)
    assert isinstance(plain, dict)
    return plain


def from_plain(cls: type, plain: dict[str, Any]) -> Any:
    """The fact of class `cls` that `to_plain` (or a schema-resolving reader) gave as `plain`."""
    return _value(shape_of(cls), plain)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, int | str | bytes):
        return value
    return {field.name: _plain(getattr(value, field.name)) for field in shape_of(value.__class__).fields}


def _value(shape: Shape, plain: Any) -> Any:
    match shape:
        case Primitive():
            return plain
        case ArrayOf(item):
            return tuple(_value(item, one) for one in plain)
        case RecordOf(cls, _, fields):
            return cls(**{field.name: _value(field.shape, plain[field.name]) for field in fields})
        case UnionOf(branches, _):
            return None if plain is None else _value(_branch(branches, plain), plain)


def _branch(branches: tuple[Shape, ...], plain: Any) -> Shape:
    for branch in branches:
        if isinstance(branch, RecordOf) == isinstance(plain, dict):
            return branch
    raise Undecodable(f"no branch of the union holds a {type(plain).__name__}")

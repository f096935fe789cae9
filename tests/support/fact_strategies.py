"""Hypothesis strategies for facts, from their type hints."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import strategies as st

from annals.schemas.committed import fact_classes
from annals.schemas.shapes import ArrayOf, Primitive, RecordOf, Shape, UnionOf, shape_of

#: Every fact and decision that has a schema, by name.
FACTS: list[type] = [cls for _, cls in sorted(fact_classes().items())]

#: As long as a length of three bytes, the first of its kind; drawn in pieces, since each byte that is drawn costs.
_LONG_BYTES = st.builds(
    lambda piece, size: (piece * size)[:size], st.binary(min_size=1, max_size=20), st.integers(8190, 8194)
)
_PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "long": st.one_of(st.integers(0, 9000), st.integers(-(1 << 63), (1 << 63) - 1)),
    "string": st.text(max_size=20) | st.text(min_size=64, max_size=70),
    "bytes": st.binary(max_size=20) | _LONG_BYTES,
    "boolean": st.booleans(),
}


def facts(cls: type) -> st.SearchStrategy[Any]:
    """Facts of class `cls`, with any values that its schema can hold."""
    return _facts(cls)


# Made for each example anew it would be checked anew, which takes longer than drawing from it.
@functools.cache
def _facts(cls: type) -> st.SearchStrategy[Any]:
    return _values(shape_of(cls))


def _values(shape: Shape) -> st.SearchStrategy[Any]:
    match shape:
        case Primitive(avro):
            return _PRIMITIVES[avro]
        case ArrayOf(item):
            return st.lists(_values(item), max_size=3).map(tuple)
        case UnionOf(branches, optional):
            return st.one_of(*([st.none()] if optional else []), *map(_values, branches))
        case RecordOf(cls, _, fields):
            return st.builds(cls, *(_values(field.shape) for field in fields))

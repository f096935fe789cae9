"""Rows as lines of COPY's text format: a function for each table, generated from its columns.

Most of a replay's time goes into making text of values. So a line is one format string, and what would need an escape
is searched for in all texts of the row at once; a row that has some goes the long way, value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import ARRAY, Boolean, Integer, LargeBinary, String
from sqlalchemy.types import TypeEngine

from annals.database.encoding import Encoder, encoding_of
from annals.database.errors import BadRow
from annals.database.rows import Row, Values, values_of
from annals.database.text import storable

LineOf = Callable[[Row | Values], str]

_ARRAY_OF_TEXTS = {"SEPARATOR": '","', "QUOTE": '"', "OPEN": '{"', "CLOSE": '"}', "EMPTY": "{}"}


def line_of(columns: Sequence[tuple[str, TypeEngine[Any]]], required: Collection[str] = ()) -> LineOf:
    """The function that writes a row as a line, without its end, of these columns; those left out are NULL.

    `required`: columns that are not NULL in the table. They are looked at together; a row that has none goes the long
    way too.
    """
    names = [name for name, _ in columns]
    values = [f"v{number}" for number in range(len(columns))]
    line = _Line(
        {"values": values_of(names), "whole": _whole(names, [encoding_of(kind).copy for _, kind in columns])},
        [
            f"    try: {', '.join(values)}, = row if row.__class__ is tuple else values(row)",
            "    except KeyError: return whole(row)",
        ],
    )
    for value, (name, kind) in zip(values, columns, strict=True):
        line.add(value, kind, is_required=name in required)
    return line.function()


class _Line:
    """The text of such a function in the making: what is looked at of all values together, and the fields."""

    def __init__(self, space: dict[str, Any], first: list[str]) -> None:
        self._space = {
            "special": _special,
            "integer": int.__repr__,
            "NULL": r"\N",
            "HEX": r"\\x",
            **_ARRAY_OF_TEXTS,
            **space,
        }
        self._lines = ["def line(row):", *first]
        self._classes: dict[str, list[str]] = {"int": [], "tuple": []}
        self._joined: list[str] = []
        self._texts: list[str] = []
        self._fields: list[str] = []

    def add(self, value: str, kind: TypeEngine[Any], *, is_required: bool) -> None:
        if isinstance(kind, String):
            self._texts.append(value if is_required else f"('' if {value} is None else {value})")
        if is_required and isinstance(kind, Integer):
            self._classes["int"].append(value)
            self._fields.append(f"{{{value}}}")
        elif is_required and isinstance(kind, ARRAY) and isinstance(kind.item_type, String):
            self._classes["tuple"].append(value)
            self._joined.append(value)
            self._texts.append(f"j{value}")
            self._fields.append(f"{{a{value}}}")
        elif is_required and isinstance(kind, String):
            self._fields.append(f"{{{value}}}")
        else:
            self._fields.append(f"{{NULL if {value} is None else {_field(value, kind, self._space)}}}")

    def function(self) -> LineOf:
        lines = self._lines
        for name, values in self._classes.items():
            if values:
                classes = " is ".join(f"{value}.__class__" for value in values)
                lines.append(f"    if not ({classes} is {name}): return whole(row)")
        if self._texts:
            lines.append("    try:")
            lines += [f"        j{value} = SEPARATOR.join({value})" for value in self._joined]
            lines += [
                f"        texts = ''.join(({', '.join(self._texts)},))",
                "    except TypeError: return whole(row)",
            ]
            lines.append("    if special(texts): return whole(row)")
        for value in self._joined:
            # Two quotes between each two, and none within.
            lines.append(f"    if j{value}.count(QUOTE) != 2 * (len({value}) or 1) - 2: return whole(row)")
            lines.append(f"    a{value} = OPEN + j{value} + CLOSE if {value} else EMPTY")
        lines.append(f"    return f'''{chr(9).join(self._fields)}'''")
        exec("\n".join(lines), self._space)  # noqa: S102 - the text above holds types and numbers of columns only
        line: LineOf = self._space["line"]
        return line


def _field(value: str, kind: TypeEngine[Any], space: dict[str, Any]) -> str:
    """The expression for a value that is not None, in which no text needs an escape."""
    if isinstance(kind, String):
        return value
    if isinstance(kind, Integer):
        return f"integer({value})"
    if isinstance(kind, LargeBinary):
        return f"HEX + {value}.hex()"
    encode = encoding_of(kind).copy
    encoder = f"encode_{value}"
    is_texts = isinstance(kind, ARRAY) and isinstance(kind.item_type, String)
    space[encoder] = _texts(encode) if is_texts else encode
    if isinstance(kind, Boolean):
        return f"'t' if {value} is True else 'f' if {value} is False else {encoder}({value})"
    return f"{encoder}({value})"


def _texts(slow: Encoder) -> Encoder:
    def encode(values: Any) -> str:
        if not isinstance(values, list | tuple) or None in values:
            return slow(values)
        if not values:
            return "{}"
        joined = '","'.join(values)
        if joined.count('"') != 2 * (len(values) - 1) or _special(joined):
            return slow(values)
        return f'{{"{joined}"}}'

    return encode


def _special(text: str) -> bool:
    """Whether anything in it needs an escape, of COPY's format or of `storable`."""
    if "\\" in text or "\n" in text or "\t" in text or "\r" in text:
        return True
    return storable(text) is not text


def _whole(names: Sequence[str], encoders: Sequence[Encoder]) -> LineOf:
    """The long way: every value by its encoder."""
    pairs = list(zip(names, encoders, strict=True))
    known = frozenset(names)

    def line(row: Row | Values) -> str:
        if isinstance(row, tuple):
            return "\t".join([encode(value) for (_, encode), value in zip(pairs, row, strict=True)])
        if not row.keys() <= known:
            raise BadRow(f"no columns {sorted(row.keys() - known)}")
        return "\t".join([encode(row.get(name)) for name, encode in pairs])

    return line

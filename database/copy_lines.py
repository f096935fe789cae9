"""Rows as lines of COPY's text format: a function for each table, generated from its columns.

Most of a replay's time goes into making text of values. So a line is one format string, and what would need an escape
is searched for in all texts of the row at once; a row that has some goes the long way, value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ARRAY, Boolean, Integer, LargeBinary, String
from sqlalchemy.types import TypeEngine

from annals.database.encoding import Encoder, encoding_of
from annals.database.errors import BadRow
from annals.database.rows import Row, values_of
from annals.database.text import storable

LineOf = Callable[[Row], str]


def line_of(columns: Sequence[tuple[str, TypeEngine[Any]]]) -> LineOf:
    """The function that writes a row as a line, without its end, of these columns; those left out are NULL."""
    names = [name for name, _ in columns]
    values = [f"v{number}" for number in range(len(columns))]
    fields: list[str] = []
    texts: list[str] = []
    space: dict[str, Any] = {"special": _special, "integer": int.__repr__, "NULL": r"\N", "HEX": r"\\x"}
    for value, (_, kind) in zip(values, columns, strict=True):
        fields.append(f"{{NULL if {value} is None else {_field(value, kind, space)}}}")
        if isinstance(kind, String):
            texts.append(f"('' if {value} is None else {value})")
    space |= {"values": values_of(names), "whole": _whole(names, [encoding_of(kind).copy for _, kind in columns])}
    source = [
        "def line(row):",
        f"    try: {', '.join(values)}, = values(row)",
        "    except KeyError: return whole(row)",
        *([f"    if special(''.join(({', '.join(texts)},))): return whole(row)"] if texts else []),
        f"    return f'''{chr(9).join(fields)}'''",
    ]
    exec("\n".join(source), space)  # noqa: S102 - the text above holds types and numbers of columns only
    line: LineOf = space["line"]
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

    def line(row: Row) -> str:
        if not row.keys() <= known:
            raise BadRow(f"no columns {sorted(row.keys() - known)}")
        return "\t".join([encode(row.get(name)) for name, encode in pairs])

    return line

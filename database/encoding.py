r"""Values as PostgreSQL reads them, by the type of their column.

Every value has one text form (what the type's input function takes). That form then stands in one of three places,
each with an escape of its own:

    COPY            tab separated:   \N for NULL; backslash, newline, return, tab escaped
    SQL literal     'quoted':        NULL; the quote doubled (standard_conforming_strings is on, see connection.py)
    array element   "quoted":        NULL; quote and backslash escaped
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Boolean, Float, Integer, LargeBinary, SmallInteger, String
from sqlalchemy.types import TypeEngine

from annals.database.errors import BadRow
from annals.database.text import storable

Encoder = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a column's values are written; each encoder takes None as well."""

    sql_type: str
    copy: Encoder
    literal: Encoder
    element: Encoder


def encoding_of(column_type: TypeEngine[Any]) -> Encoding:
    """The encoding of a column's type; BadRow for a type that the tables do not use."""
    if isinstance(column_type, ARRAY):
        if column_type.dimensions not in (None, 1):
            raise BadRow("arrays have one dimension here")
        item = encoding_of(column_type.item_type)
        return _escaping(f"{item.sql_type}[]", _array_text(item.element))
    if isinstance(column_type, Boolean):
        return _plain("boolean", _boolean_text)
    if isinstance(column_type, BigInteger):
        return _plain("bigint", int.__repr__)
    if isinstance(column_type, SmallInteger):
        return _plain("smallint", int.__repr__)
    if isinstance(column_type, Integer):
        return _plain("integer", int.__repr__)
    if isinstance(column_type, Float):
        return _plain("double precision", _float_text)
    if isinstance(column_type, LargeBinary):
        return _escaping("bytea", _bytes_text)
    if isinstance(column_type, String):
        return Encoding("text", _copy_text, _literal_text, _element_text)
    raise BadRow(f"no encoding for columns of type {column_type!r}")


def _plain(sql_type: str, text: Encoder) -> Encoding:
    """An encoding whose text form never needs an escape."""

    def copy(value: Any) -> str:
        return r"\N" if value is None else text(value)

    def literal(value: Any) -> str:
        return "NULL" if value is None else f"'{text(value)}'"

    def element(value: Any) -> str:
        return "NULL" if value is None else text(value)

    return Encoding(sql_type, copy, literal, element)


def _escaping(sql_type: str, text: Encoder) -> Encoding:
    """An encoding whose text form may hold anything."""

    def copy(value: Any) -> str:
        return r"\N" if value is None else copy_escaped(text(value))

    def literal(value: Any) -> str:
        return "NULL" if value is None else quoted(text(value))

    def element(value: Any) -> str:
        return "NULL" if value is None else element_quoted(text(value))

    return Encoding(sql_type, copy, literal, element)


def copy_escaped(text: str) -> str:
    """A field of COPY's text format."""
    # The searches run at memory speed; most values need no copy.
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    if "\t" in text:
        text = text.replace("\t", "\\t")
    if "\r" in text:
        text = text.replace("\r", "\\r")
    return text


def quoted(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def element_quoted(text: str) -> str:
    """An element of an array's text form."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# Strings are most of what is written: their encoders are spelled out.


def _copy_text(value: str | None) -> str:
    return r"\N" if value is None else copy_escaped(storable(value))


def _literal_text(value: str | None) -> str:
    return "NULL" if value is None else "'" + storable(value).replace("'", "''") + "'"


def _element_text(value: str | None) -> str:
    return "NULL" if value is None else element_quoted(storable(value))


def _boolean_text(value: bool) -> str:
    if value is True:
        return "t"
    if value is False:
        return "f"
    raise TypeError(f"not a boolean: {value!r}")


def _float_text(value: float) -> str:
    return repr(float(value))


def _bytes_text(value: bytes) -> str:
    return "\\x" + bytes.hex(value)


def _array_text(element: Encoder) -> Encoder:
    def text(values: Sequence[Any]) -> str:
        if not isinstance(values, list | tuple):
            # A string is a sequence too.
            raise TypeError(f"not a list or tuple: {values!r}")
        return "{" + ",".join(map(element, values)) + "}"

    return text

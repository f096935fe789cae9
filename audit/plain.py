"""Facts and decisions as plain values and as text: for JSON, and for terminals."""

from __future__ import annotations

import dataclasses
from typing import Any


def plain(value: Any) -> Any:
    """A fact, or a part of one, as what JSON has. Bytes are text where they are UTF-8, else hex."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    return value


def printable(text: str) -> str:
    """The text with what is not printable escaped: what users wrote must not steer an operator's terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

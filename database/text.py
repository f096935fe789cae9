"""Every string that may come from the wire, in a text column that may not hold all of them.

PostgreSQL's text has no U+0000, and UTF-8 no lone surrogates; JSON has both. They are escaped behind U+0001, which
escapes itself. A string with none of these is stored as it is, and that is nearly every one:

    U+0000 -> U+0001 "0"        U+0001 -> U+0001 "1"        U+D800..U+DFFF -> U+0001 "u" and four hex digits

The mapping is one-to-one, so equality, keys and unique indexes mean what they meant; order and length may differ.
"""

from __future__ import annotations

import re

_ESCAPE = "\x01"
_UNSTORABLE = re.compile("[\x00\x01\ud800-\udfff]")
_ESCAPED = re.compile("\x01(0|1|u[0-9a-f]{4})")


def storable(value: str) -> str:
    """The string as a text column can hold it; the same object where nothing needs an escape."""
    if "\x00" not in value and _ESCAPE not in value:
        if value.isascii():
            return value
        try:
            value.encode()
            return value
        except UnicodeEncodeError:
            pass
    return _UNSTORABLE.sub(_escape, value)


def restore(stored: str) -> str:
    """What `storable` was given; the same object for nearly every string."""
    if _ESCAPE not in stored:
        return stored
    return _ESCAPED.sub(_unescape, stored)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character == "\x00":
        return "\x010"
    if character == _ESCAPE:
        return "\x011"
    return f"\x01u{ord(character):04x}"


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code == "0":
        return "\x00"
    if code == "1":
        return _ESCAPE
    return chr(int(code[1:], 16))

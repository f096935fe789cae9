"""Another number in a record, without decoding and encoding the rest: a replay copies decisions by the million."""

from __future__ import annotations

from functools import cache

from annals.schemas.committed import committed
from annals.schemas.fingerprint import MARKER, PREFIX_BYTES
from annals.schemas.varint import read_length, read_long, write_long


def with_number(value: bytes, field: str, number: int) -> bytes | None:
    """The record `value` with `number` in its field of type long; None where that does not stand behind numbers and
    strings only, or the schema is none of this checkout. IndexError or Undecodable where the record is torn."""
    before = _fields_before(value[:PREFIX_BYTES], field)
    if before is None:
        return None
    at = PREFIX_BYTES
    for is_number in before:
        if is_number:
            while value[at] > 127:
                at += 1
            at += 1
        else:
            doubled, at = read_length(value, at)
            at += doubled >> 1
    _, end = read_long(value, at)
    return b"".join((value[:at], write_long(number), value[end:]))


@cache
def _fields_before(prefix: bytes, field: str) -> tuple[bool, ...] | None:
    """Of each field before `field` whether it is a number; what is neither number, string nor bytes is not passed."""
    for file in committed():
        if MARKER + file.fingerprint == prefix:
            before: list[bool] = []
            for one in file.schema["fields"]:
                if one["name"] == field:
                    return tuple(before) if one["type"] == "long" else None
                if one["type"] not in ("long", "string", "bytes"):
                    return None
                before.append(one["type"] == "long")
    return None

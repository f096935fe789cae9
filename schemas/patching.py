"""Another number in a record, without decoding and encoding the rest: a replay copies decisions by the million."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from annals.schemas.committed import committed
from annals.schemas.fingerprint import MARKER, PREFIX_BYTES
from annals.schemas.varint import SHORT, SHORT_LIMIT, read_length, write_long


def with_number(value: bytes, field: str, number: int) -> bytes | None:
    """The record `value` with `number` in its field of type long; None where that does not stand behind numbers and
    strings only, or the schema is none of this checkout. IndexError or Undecodable where the record is torn."""
    patch = _patch_of(value[:PREFIX_BYTES], field)
    return None if patch is None else patch(value, SHORT[number] if 0 <= number < SHORT_LIMIT else write_long(number))


@cache
def _patch_of(prefix: bytes, field: str) -> Callable[[bytes, bytes], bytes] | None:
    """What puts an encoded number into that field of a record; generated, as the codec is."""
    before = _fields_before(prefix, field)
    if before is None:
        return None
    lines = ["def patch(b, number):", f"    i = {PREFIX_BYTES}"]
    for is_number in before:
        if is_number:
            lines += ["    while b[i] > 127: i += 1", "    i += 1"]
        else:
            lines += ["    n = b[i]", "    if n & 129: n, i = read_length(b, i)", "    else: i += 1", "    i += n >> 1"]
    lines += ["    j = i", "    while b[j] > 127: j += 1", "    return b[:i] + number + b[j + 1:]"]
    space: dict[str, Any] = {"read_length": read_length}
    exec("\n".join(lines), space)  # noqa: S102 - the text above holds one number of ours only
    patch: Callable[[bytes, bytes], bytes] = space["patch"]
    return patch


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

"""Canonical JSON (appendices, "Canonical JSON"): one value, one sequence of bytes.

Two ways write it. orjson is the fast one: it sorts keys by their UTF-8 bytes, which is the order of their code
points, and escapes exactly what the grammar escapes. It cannot carry integers beyond 64 bits and writes floats in a
form of its own; such values (room versions 1-5 have them) take the standard library's encoder, whose output is what
the network hashed. Tests hold both against each other and against the reference implementation.

Events are walked once, on arrival or when built (`check_strict`); their hashes then use `checked_bytes`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import orjson

from annals.matrix.errors import InvalidJson, NotCanonical

INTEGER_MAX = 2**53 - 1
INTEGER_MIN = -(2**53) + 1

DEPTH_MAX = 200
"""Containers inside containers that a value may have. The spec names no bound. Beyond this a PDU is dropped; it must
fit, with the envelopes of our own answers around it, into the 253 levels that orjson writes."""

_BRACKETS_CERTAINLY_FINE = 250
_INTEGER_64_MIN = -(2**63)
_INTEGER_64_MAX = 2**64 - 1

_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_DIGIT_RUN = b"0" * 19

_slow_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)


def loads(data: bytes | str) -> Any:
    """Read one JSON text from the wire, exactly: integers of any size (below 10^308) stay integers.

    Refused (`InvalidJson`): what is not JSON or not UTF-8, lone surrogates, NaN and infinities, numbers that overflow a
    double, nesting beyond a bound. Of a duplicate key the last value counts, as in every implementation known to us.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(str(error)) from None
    # No text nests deeper than it has opening brackets. Where there are many, writing it again is the quickest way to
    # know: orjson reads 1024 levels, and refuses to write more than 253.
    if raw.count(b"[") + raw.count(b"{") > _BRACKETS_CERTAINLY_FINE:
        try:
            orjson.dumps(value)
        except TypeError:
            raise InvalidJson("nested too deeply") from None
    # orjson turns integers beyond 64 bits into floats. They have at least 19 digits in a row.
    if _LONG_DIGIT_RUN in raw.translate(_DIGITS_TO_ZERO):
        try:
            return json.loads(raw)
        except ValueError as error:
            raise InvalidJson(str(error)) from None
    return value


def canonical_bytes(value: Any) -> bytes:
    """The canonical form of any JSON value, big integers and (as room versions 1-5 hash them) floats included.

    Raises `NotCanonical` for what JSON cannot say: NaN, lone surrogates, other Python types, and too deep nesting.
    """
    return checked_bytes(value) if _fast_path_is_exact(value, DEPTH_MAX) else slow_bytes(value)


def strict_bytes(value: Any) -> bytes:
    """The canonical form under the strict rules of room versions 6 and later; raises `NotCanonical`."""
    check_strict(value)
    return checked_bytes(value)


def canonicalise(text: bytes) -> bytes:
    """The canonical form of a JSON text in which numbers may be spelled in other ways (`-0`, `1e10`).

    The appendix's last example asks for this. Events never take this road: there `1e10` is a float, and refused.
    """
    loads(text)  # everything that is refused there is refused here

    def whole(literal: str) -> int:
        number = float(literal)
        if not number.is_integer() or not INTEGER_MIN <= number <= INTEGER_MAX:
            raise NotCanonical(f"not an integer in range: {literal[:40]}")
        return int(number)

    return strict_bytes(json.loads(text, parse_float=whole))


def checked_bytes(value: Any) -> bytes:
    """Canonical bytes of a value that `check_strict` has passed; others may come out in another form."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise NotCanonical(str(error)) from None


def slow_bytes(value: Any) -> bytes:
    """The same bytes by the standard library; exact for every value that `canonical_bytes` accepts."""
    _fast_path_is_exact(value, DEPTH_MAX)
    try:
        return _slow_encoder.encode(value).encode("utf-8")
    except ValueError as error:
        raise NotCanonical(str(error)) from None


def check_strict(value: Any, depth_left: int = DEPTH_MAX) -> None:
    """Raise `NotCanonical` unless the value may stand in an event of a strict room version.

    Strings are not looked into: a lone surrogate fails when the bytes are made.
    """
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                raise NotCanonical("an object's key is not a string")
        values = value.values()
    elif type(value) is list:
        values = value  # type: ignore[assignment]
    else:
        values = (value,)  # type: ignore[assignment]
    for item in values:
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if kind is int:
            # "Numbers in the JSON must be integers in the range [-(2**53)+1, (2**53)-1]"
            if not INTEGER_MIN <= item <= INTEGER_MAX:
                raise NotCanonical("an integer is out of range")
        elif kind is dict or kind is list:
            if depth_left <= 1:
                raise NotCanonical("nested too deeply")
            check_strict(item, depth_left - 1)
        else:
            # "Float values are not permitted by this encoding."
            raise NotCanonical(f"not a value of canonical JSON: {kind.__name__}")


def _fast_path_is_exact(value: Any, depth_left: int) -> bool:
    """Whether orjson writes this value canonically; raises `NotCanonical` where nothing can."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(_INTEGER_64_MIN <= value <= _INTEGER_64_MAX)
    if kind is float:
        if not math.isfinite(value):
            raise NotCanonical("not a finite number")
        return False
    if depth_left <= 0:
        raise NotCanonical("nested too deeply")
    if kind is list:
        return _all_fast(value, depth_left - 1)
    if kind is dict:
        if any(type(key) is not str for key in value):
            raise NotCanonical("an object's key is not a string")
        return _all_fast(value.values(), depth_left - 1)
    raise NotCanonical(f"not a JSON value: {kind.__name__}")


def _all_fast(items: Iterable[Any], depth_left: int) -> bool:
    exact = True
    for item in items:
        # No short cut: what no encoder can write must be found behind what only the slow one can.
        exact &= _fast_path_is_exact(item, depth_left)
    return exact

"""Avro's integers: zigzag, then seven bits a byte, lowest first, the top bit set on all bytes but the last.

The generated codec takes what is short from SHORT and calls these functions for the rest.
"""

from __future__ import annotations

from annals.schemas.errors import Undecodable, Unencodable

SHORT_LIMIT = 8192
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1
_SHIFTS = range(28, 64 + 6, 7)
_PAIR_BITS = 14
_PAIR_MASK = (1 << _PAIR_BITS) - 1


def _last(zigzag: int) -> bytes:
    return bytes((zigzag,)) if zigzag < 128 else bytes((zigzag & 127 | 128, zigzag >> 7))


_LAST = tuple(_last(zigzag) for zigzag in range(1 << _PAIR_BITS))
_MORE = tuple(bytes((zigzag & 127 | 128, zigzag >> 7 | 128)) for zigzag in range(1 << _PAIR_BITS))

#: The encoding of every integer from 0 to SHORT_LIMIT - 1.
SHORT = _LAST[::2]


def write_long(value: int) -> bytes:
    """`value` as an Avro long; Unencodable beyond 64 bits."""
    if not _LOWEST <= value <= _HIGHEST:
        raise Unencodable(f"{value} does not fit 64 bits")
    zigzag = value << 1 if value >= 0 else (-value << 1) - 1
    encoded = b""
    while zigzag > _PAIR_MASK:
        encoded += _MORE[zigzag & _PAIR_MASK]
        zigzag >>= _PAIR_BITS
    return encoded + _LAST[zigzag]


def read_long(data: bytes, start: int) -> tuple[int, int]:
    """The long at `start` and where the next value begins; IndexError where the data ends before."""
    # Spelled out for what is common: positions have five bytes, times six. The top bits of all bytes but the last are
    # taken away at once.
    zigzag = data[start]
    if zigzag < 128:
        return (zigzag >> 1) ^ -(zigzag & 1), start + 1
    if (byte := data[start + 1]) < 128:
        zigzag += (byte << 7) - 0x80
        return (zigzag >> 1) ^ -(zigzag & 1), start + 2
    zigzag += byte << 7
    if (byte := data[start + 2]) < 128:
        zigzag += (byte << 14) - 0x4080
        return (zigzag >> 1) ^ -(zigzag & 1), start + 3
    zigzag += byte << 14
    if (byte := data[start + 3]) < 128:
        zigzag += (byte << 21) - 0x204080
        return (zigzag >> 1) ^ -(zigzag & 1), start + 4
    zigzag += byte << 21
    if (byte := data[start + 4]) < 128:
        zigzag += (byte << 28) - 0x10204080
        return (zigzag >> 1) ^ -(zigzag & 1), start + 5
    return _read_rest(data, start + 4, zigzag - 0x10204080)


def _read_rest(data: bytes, at: int, zigzag: int) -> tuple[int, int]:
    """A long of which the bytes before `at` are read."""
    for shift in _SHIFTS:
        byte = data[at]
        at += 1
        if byte < 128:
            zigzag |= byte << shift
            break
        zigzag |= (byte & 127) << shift
    else:
        raise Undecodable("an integer of more than ten bytes")
    if zigzag >> 64:
        raise Undecodable("an integer of more than 64 bits")
    return (zigzag >> 1) ^ -(zigzag & 1), at


def read_length(data: bytes, start: int) -> tuple[int, int]:
    """A length, doubled (as a short one stands in the data); Undecodable where it is negative."""
    low, high = data[start], data[start + 1]
    if low > 127 and high < 128 and not low & 1:
        return low & 127 | high << 7, start + 2
    length, start = read_long(data, start)
    if length < 0:
        raise Undecodable("a negative length")
    return length << 1, start


def read_block(data: bytes, start: int) -> tuple[int, int]:
    """The count of an array's next block; a negative one is followed by the block's size, which nobody needs here."""
    count, start = read_long(data, start)
    if count < 0:
        _, start = read_long(data, start)
        count = -count
    return count, start

"""The /sync token: a position, packed.

It names the log and, by partition, the next offset to read of the topics that /sync shows, so that it outlives every
table: a rebuild, a switch, a copy of the log. Between steps only: it holds offsets, not stream positions.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

_PREFIX = "s1_"
_LOG_BYTES = 6
_OFFSET_MAX = (1 << 42) - 1  # packed into a stream position it still fits 63 bits
_PARTS = ("rooms", "users", "receipts")


class BadToken(ValueError):
    """Not a token of ours."""


@dataclass(frozen=True, slots=True)
class SyncToken:
    """A vector of offsets. `to_device` is the user's own partition of that topic, `ephemeral` is only advice."""

    log: bytes
    rooms: tuple[int, ...]
    users: tuple[int, ...]
    receipts: tuple[int, ...]
    to_device: int = 0
    ephemeral: int = 0

    def pack(self) -> str:
        """The token's text: about 110 characters, safe in a URL."""
        numbers = [self.to_device, self.ephemeral]
        for part in (self.rooms, self.users, self.receipts):
            numbers += [len(part), *part]
        return _PREFIX + urlsafe_b64encode(self.log + bytes(_varints(numbers))).decode().rstrip("=")

    def fits(self, other: SyncToken) -> bool:
        """Whether both have the same partitions."""
        return all(len(getattr(self, name)) == len(getattr(other, name)) for name in _PARTS)

    def is_ahead_of(self, other: SyncToken) -> bool:
        """Whether any part of it names more than `other` has."""
        return any(
            mine > theirs
            for name in _PARTS
            for mine, theirs in zip(getattr(self, name), getattr(other, name), strict=False)
        )


def log_mark(log_id: str) -> bytes:
    """What stands for the log in a token."""
    return sha256(log_id.encode()).digest()[:_LOG_BYTES]


def token_of(log: bytes, offsets: Mapping[tuple[str, int], int], ephemeral: int) -> SyncToken:
    """The token of a vector of offsets, by (topic, partition)."""
    parts = {name: _column(name, offsets) for name in _PARTS}
    return SyncToken(log, parts["rooms"], parts["users"], parts["receipts"], 0, ephemeral)


def unpack(text: str) -> SyncToken:
    """The token in a text; raises BadToken."""
    if not text.startswith(_PREFIX) or not text.isascii():
        raise BadToken(text[:200])
    packed = text[len(_PREFIX) :]
    try:
        data = urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        numbers = iter(list(_read_varints(data[_LOG_BYTES:])))
        to_device, ephemeral = next(numbers), next(numbers)
        parts = [tuple(next(numbers) for _ in range(_count(next(numbers)))) for _ in _PARTS]
    except (Base64Error, ValueError, StopIteration, RuntimeError):
        raise BadToken(text[:200]) from None
    if len(data) < _LOG_BYTES or next(numbers, None) is not None:
        raise BadToken(text[:200])
    return SyncToken(data[:_LOG_BYTES], parts[0], parts[1], parts[2], to_device, ephemeral)


def _count(number: int) -> int:
    if number > 1_000:
        raise ValueError("too many partitions")
    return number


def _column(topic: str, offsets: Mapping[tuple[str, int], int]) -> tuple[int, ...]:
    count = 1 + max((partition for name, partition in offsets if name == topic), default=-1)
    return tuple(offsets.get((topic, partition), 0) for partition in range(count))


def _varints(numbers: Iterable[int]) -> Iterator[int]:
    for number in numbers:
        while number >= 0x80:
            yield number & 0x7F | 0x80
            number >>= 7
        yield number


def _read_varints(data: bytes) -> Iterator[int]:
    number, shift = 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if number > _OFFSET_MAX:
            raise ValueError("no offset is so large")
        if byte < 0x80:
            yield number
            number, shift = 0, 0
    if shift:
        raise ValueError("cut short")

"""Decisions of over 64 KiB, in parts: no record of the log is larger than 65,536 bytes and a small envelope.

A decision grows with the state that it makes (a resolution over many members); a PDU never gets that large.
"""

from __future__ import annotations

import hashlib

from annals.schemas.codec import encode
from annals.schemas.errors import TornParts
from annals.schemas.facts.decisions import DecisionPart

RECORD_LIMIT_BYTES = 65_536
_DATA_BYTES = RECORD_LIMIT_BYTES - 1024


def split(value: bytes, epoch: int) -> list[bytes]:
    """The records that carry the record `value`: itself, or the parts of it, to be appended in this order."""
    if len(value) <= RECORD_LIMIT_BYTES:
        return [value]
    group = hashlib.sha256(value).digest()
    chunks = [value[start : start + _DATA_BYTES] for start in range(0, len(value), _DATA_BYTES)]
    return [encode(DecisionPart(epoch, group, index, len(chunks), chunk)) for index, chunk in enumerate(chunks)]


class Joiner:
    """Puts the parts of one partition together again, in the order in which they stand there.

    Void parts (of a lower epoch than the last mark's) are the caller's to leave out; at a mark it calls `reset`, since
    a group that is open then has lost its writer.
    """

    def __init__(self) -> None:
        self._group = b""
        self._chunks: list[bytes] = []

    @property
    def waiting(self) -> bool:
        """Whether a group has begun and is not complete."""
        return bool(self._chunks)

    def add(self, part: DecisionPart) -> bytes | None:
        """The whole record where this is its last part, else None. TornParts where it does not follow the last one."""
        if part.index == 0 and not self._chunks:
            self._group = part.group
        if part.group != self._group or part.index != len(self._chunks) or part.index >= part.count:
            raise TornParts(f"part {part.index} of {part.count} does not follow {len(self._chunks)} parts")
        self._chunks.append(part.data)
        if len(self._chunks) < part.count:
            return None
        value = b"".join(self._chunks)
        self.reset()
        if hashlib.sha256(value).digest() != part.group:
            raise TornParts("the parts do not add up to the record that they name")
        return value

    def reset(self) -> None:
        """Forget a group that is not complete."""
        self._group = b""
        self._chunks = []

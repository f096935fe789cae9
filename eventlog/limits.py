"""How much a process holds of what is not yet on disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What may wait for the disk, what is on its way there included. More is refused at once."""

    records: int = 20_000
    size_bytes: int = 64 << 20

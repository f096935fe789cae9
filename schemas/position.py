"""Stream positions: (offset of the fact whose step made it, ordinal within the step), packed into one integer.

Packed positions of one partition compare as the pairs do, and fit PostgreSQL's bigint beside two bits for state ids.
"""

from __future__ import annotations

ORDINAL_BITS = 20
ORDINALS_PER_STEP = 1 << ORDINAL_BITS
_ORDINAL_MASK = ORDINALS_PER_STEP - 1


def pack(offset: int, ordinal: int) -> int:
    """The position of the `ordinal`-th effect of the step of the fact at `offset`."""
    if not 0 <= ordinal < ORDINALS_PER_STEP:
        raise ValueError(f"a step has at most {ORDINALS_PER_STEP} effects, not {ordinal}")
    return (offset << ORDINAL_BITS) | ordinal


def offset_of(position: int) -> int:
    """The offset of the fact whose step made `position`."""
    return position >> ORDINAL_BITS


def ordinal_of(position: int) -> int:
    """The place of `position` within its step."""
    return position & _ORDINAL_MASK


def step_start(offset: int) -> int:
    """The lowest position of a step: everything of the steps before `offset` is below it."""
    return offset << ORDINAL_BITS

"""Tokens of /messages and its kin: a place between two events in the order (depth, stream position).

A /sync shows events by stream position, which after a fork is another order: what a timeline ends before is no place
between two events. Its `prev_batch` is therefore a place with a bound, behind all events that became visible below a
stream position, and no others: so a gap is filled without a repeat and without a skip.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NUMBER_MAX = (1 << 63) - 1
#: A bound above, or below, all stream positions.
UNBOUNDED = 1 << 62
_TOKEN = re.compile(r"t(\d{1,19})-(\d{1,19})(?:b(\d{1,19}))?(?:a(\d{1,19}))?", re.ASCII)


class BadPageToken(ValueError):
    """Not a token of ours."""


@dataclass(frozen=True, slots=True, order=True)
class PageToken:
    """The place just before the event of this depth and stream position, whether or not there is one.

    Pages from it hold only what became visible below the stream position `below`, from `above` on.
    """

    depth: int
    position: int
    below: int = field(default=UNBOUNDED, compare=False)
    above: int = field(default=0, compare=False)

    def pack(self) -> str:
        """The token's text."""
        below = f"b{self.below}" if self.below != UNBOUNDED else ""
        above = f"a{self.above}" if self.above else ""
        return f"t{self.depth}-{self.position}{below}{above}"

    @property
    def is_end_of_sync(self) -> bool:
        """Whether it names a stream position rather than a place between two events."""
        return self.depth == _NUMBER_MAX and self.below != UNBOUNDED


#: Behind every event.
NEWEST = PageToken(_NUMBER_MAX, _NUMBER_MAX)
#: Before every event.
OLDEST = PageToken(0, 0)


def before_position(position: int) -> PageToken:
    """Behind everything that became visible below a stream position."""
    return PageToken(_NUMBER_MAX, _NUMBER_MAX, below=position)


def unpack_page(text: str) -> PageToken:
    """The token in a text; raises BadPageToken."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise BadPageToken(text[:200])
    depth, position, below, above = (int(number) if number else None for number in found.groups())
    if any(number is not None and number > _NUMBER_MAX for number in (depth, position, below, above)):
        raise BadPageToken(text[:200])
    return PageToken(depth or 0, position or 0, UNBOUNDED if below is None else below, above or 0)

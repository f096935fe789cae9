"""Tokens of /messages and its kin: a place between two events in the order (depth, stream position)."""

from __future__ import annotations

from dataclasses import dataclass

_PREFIX = "t"
_NUMBER_MAX = (1 << 63) - 1


class BadPageToken(ValueError):
    """Not a token of ours."""


@dataclass(frozen=True, slots=True, order=True)
class PageToken:
    """The place just before the event of this depth and stream position, whether or not there is one."""

    depth: int
    position: int

    def pack(self) -> str:
        """The token's text."""
        return f"{_PREFIX}{self.depth}-{self.position}"


#: Behind every event.
NEWEST = PageToken(_NUMBER_MAX, _NUMBER_MAX)
#: Before every event.
OLDEST = PageToken(0, 0)


def unpack_page(text: str) -> PageToken:
    """The token in a text; raises BadPageToken."""
    depth, dash, position = text.removeprefix(_PREFIX).partition("-")
    numbers = (depth, position)
    if not text.startswith(_PREFIX) or not dash or not all(n.isascii() and n.isdigit() for n in numbers):
        raise BadPageToken(text[:200])
    if any(len(number) > 19 or int(number) > _NUMBER_MAX for number in numbers):
        raise BadPageToken(text[:200])
    return PageToken(int(depth), int(position))

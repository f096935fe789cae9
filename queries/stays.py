"""A user's stays in a room: from where the current state has them join to where it has them in the room no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: A stream position above all others.
END = 1 << 62


class Transition(NamedTuple):
    """At `position` the user's membership became `membership` (None: the member event fell away)."""

    position: int
    membership: str | None


def left_at(transitions: Iterable[tuple[int, str | None]]) -> int | None:
    """Stream position at which the user's last stay that ended did; a ban that came later is no stay. Oldest first."""
    left, inside = None, False
    for position, membership in transitions:
        if inside and membership != "join":
            left = position
        inside = membership == "join"
    return left

"""Whom a batch concerns: what passes from the folds to those who wait."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Moved:
    """Of which rooms and users a batch changed something: their waiters wake.

    `heads`: the forward extremity after the batch, of rooms that have one and do not stand still. `errands`: what the
    batch leaves for other processes to do (annals.projectors.notices).
    """

    rooms: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    heads: dict[str, str] = field(default_factory=dict)
    errands: set[str] = field(default_factory=set)

    def update(self, other: Moved) -> None:
        """Add another's."""
        self.rooms.update(other.rooms)
        self.users.update(other.users)
        self.heads.update(other.heads)
        self.errands.update(other.errands)

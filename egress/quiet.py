"""Rooms in which no other server is: what happens in them is nobody's elsewhere, and wakes no reader.

    notice ─▶ only rooms of ours, and nobody of elsewhere came or went ─▶ read with the next, or after QUIET_S
                                                              else ─────▶ read now

A room is taken for quiet by what was read of it last, and no more once a notice says that users of other servers came
or went. All that is passed over is read later all the same: who errs here sends late, not never.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from annals.egress.vectors import ROOMS
from annals.projectors.notices import SERVERS, Notice

#: How far the cursor stays behind where nobody has to hear of anything.
QUIET_S = 1.0
KEPT_MAX = 100_000


@dataclass(slots=True)
class QuietRooms:
    """Lives on one event loop."""

    _quiet: set[str] = field(default_factory=set)
    #: rooms of which a notice said, since the read under way began, that they may not be quiet; None: all
    _doubted: set[str] | None = field(default_factory=set)

    def begin(self) -> None:
        """A read begins: what notices say from now on may not be in it."""
        self._doubted = set()

    def found(self, rooms: Collection[str], quiet: Collection[str]) -> None:
        """The read has these rooms, and of these it knows that no other server is in them."""
        self._quiet.difference_update(rooms)
        if self._doubted is None:
            return
        if len(self._quiet) > KEPT_MAX:
            self._quiet.clear()
        self._quiet.update(room_id for room_id in quiet if room_id not in self._doubted)

    def concerns(self, notice: Notice) -> bool:
        """Whether somebody elsewhere may have to hear of what moved."""
        if notice.everything or notice.errands is None:
            self._quiet.clear()
            self._doubted = None
            return True
        if SERVERS in notice.errands:
            self._quiet.difference_update(notice.rooms)
            if self._doubted is not None:
                self._doubted.update(notice.rooms)
            return True
        if notice.positions and not any(topic == ROOMS for topic, _ in notice.positions):
            return False
        return not self._quiet.issuperset(notice.rooms)

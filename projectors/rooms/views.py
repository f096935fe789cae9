"""Views of rooms in memory, least recently used first to go, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from annals.rooms.trimming import committed, trim
from annals.rooms.view import RoomView

VIEWS_BYTES_MAX = 64 << 20


class ViewCache:
    """Views of committed steps only: a batch works on copies and hands them over after its commit."""

    def __init__(self, bytes_max: int = VIEWS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._views: OrderedDict[str, tuple[RoomView, int, int]] = OrderedDict()
        self.weight_bytes = 0

    def get(self, room_id: str) -> RoomView | None:
        """The view of a room, if it is here."""
        entry = self._views.get(room_id)
        if entry is None:
            return None
        self._views.move_to_end(room_id)
        return entry[0]

    def keep(self, partition: int, views: Mapping[str, RoomView]) -> None:
        """Take the views that a commit left, trimmed."""
        for room_id, view in views.items():
            self._drop(room_id)
            kept = trim(committed(view))
            weight = kept.weight_bytes
            self._views[room_id] = kept, partition, weight
            self.weight_bytes += weight
        while self.weight_bytes > self._bytes_max and self._views:
            self._drop(next(iter(self._views)))

    def forget(self, partition: int) -> None:
        """Throw a partition's views away: its owner does not know any more what the tables hold."""
        for room_id in [room_id for room_id, entry in self._views.items() if entry[1] == partition]:
            self._drop(room_id)

    def _drop(self, room_id: str) -> None:
        entry = self._views.pop(room_id, None)
        if entry is not None:
            self.weight_bytes -= entry[2]

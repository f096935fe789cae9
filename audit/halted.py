"""Rooms that stand still."""

from __future__ import annotations

from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore

_HALTED = """
SELECT h.room_id, h.source, h.error,
    (SELECT array_agg(w.source ORDER BY w.source) FROM waiting_facts w WHERE w.room_id = h.room_id)
FROM halted_rooms h ORDER BY h.room_id"""


@dataclass(frozen=True, slots=True)
class HaltedRoom:
    """A room that stands still. `source` is the offset of the fact that failed; `waiting` those of all that wait."""

    room_id: str
    source: int
    error: str
    waiting: tuple[int, ...]


def halted_rooms(snapshot: Snapshot) -> list[HaltedRoom]:
    """All of them, by room id."""
    return [
        HaltedRoom(restore(room_id), source, restore(error), tuple(waiting or ()))
        for room_id, source, error, waiting in snapshot.rows(_HALTED)
    ]

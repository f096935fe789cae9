"""As of when a user may read a room (security rows 33 and 34).

Who is in the room reads it as it is now; who has left, as it was when they left; anybody reads a world-readable one.
History visibility then decides about single events (history.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.queries.errors import NoAccess
from annals.queries.stays import END, left_at

#: A stream position above all others.
NOW = END

_STANDING_SQL = """
    SELECT m.membership, m.forgotten, (
        SELECT e.client_json FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE cs.room_id = r.room_id AND cs.type = 'm.room.history_visibility' AND cs.state_key = '')
    FROM rooms r LEFT JOIN local_current_membership m ON m.room_id = r.room_id AND m.user_id = %s
    WHERE r.room_id = %s
"""
_TRANSITIONS_SQL = """
    SELECT position, membership FROM current_state_deltas
    WHERE room_id = %s AND type = 'm.room.member' AND state_key = %s
    ORDER BY position, ordinal
"""


@dataclass(frozen=True, slots=True)
class Access:
    """A user may read what became visible below the stream position `until`."""

    until: int = NOW
    joined: bool = False

    @property
    def current(self) -> bool:
        """Whether the room is read as it is now."""
        return self.until == NOW


def access_to(snapshot: Snapshot, room_id: str, user_id: str) -> Access:
    """The user's access to the room; raises NoAccess for strangers."""
    row = snapshot.one(_STANDING_SQL, (user_id, room_id))
    if row is None:
        raise NoAccess(room_id)
    membership, forgotten, visibility = row
    if membership == "join":
        return Access(joined=True)
    if visibility is not None and _is_world_readable(visibility):
        return Access()
    # Whose member event fell away (state resolution) left all the same.
    left = None if forgotten else left_at(snapshot.rows(_TRANSITIONS_SQL, (room_id, user_id)))
    if left is None:
        raise NoAccess(room_id)
    return Access(left + 1)


def _is_world_readable(text: str) -> bool:
    content = loads(restore(text)).get("content")
    return isinstance(content, dict) and content.get("history_visibility") == "world_readable"

"""Whether one of our users is in a room, for commands that do not pass the room's builder."""

from __future__ import annotations

from annals.commands.errors import Refused
from annals.database.snapshot import Snapshot

_SQL = "SELECT 1 FROM local_current_membership WHERE room_id = %s AND user_id = %s AND membership = 'join'"


def require_joined(snapshot: Snapshot, room_id: str, user_id: str) -> None:
    """Refuse who is not in the room: 403 M_FORBIDDEN, whether or not there is one."""
    if snapshot.one(_SQL, (room_id, user_id)) is None:
        raise Refused(403, "M_FORBIDDEN", "You are not in this room")

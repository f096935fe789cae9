"""What the current power levels of a room let a user do, read from the tables."""

from __future__ import annotations

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.power_levels import PowerLevels
from annals.projectors.rooms.read import shown_event

_STATE_SQL = """
    SELECT cs.type, cs.membership, e.event_id, e.room_version, e.client_json
    FROM current_state cs JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.room_id = %s AND (
        (cs.type IN ('m.room.create', 'm.room.power_levels') AND cs.state_key = '')
        OR (cs.type = 'm.room.member' AND cs.state_key = %s))
"""


class RoomPower:
    """See annals.commands.aliases.StatePower."""

    def may_send_state(self, snapshot: Snapshot, room_id: str, user_id: str, event_type: str) -> bool:
        """Whether the user is joined and may send state of that type."""
        rows = {row[0]: row for row in snapshot.rows(_STATE_SQL, (room_id, user_id))}
        if "m.room.member" not in rows or rows["m.room.member"][1] != "join":
            return False
        events = {
            held: shown_event(restore(text), version, restore(event_id))
            for held, (_, _, event_id, version, text) in rows.items()
        }
        levels = PowerLevels.of(events.get("m.room.create"), events.get("m.room.power_levels"))
        return levels.user(user_id) >= levels.required(event_type, is_state=True)

"""Who may join a restricted room by being in another one (server-server API, "Restricted rooms"), as we can tell."""

from __future__ import annotations

from dataclasses import dataclass

from annals.commands.errors import Refused
from annals.commands.rooms.membership import allowed_rooms
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads

_JOIN_RULES_SQL = """
    SELECT e.client_json FROM current_state cs JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.room_id = %s AND cs.type = 'm.room.join_rules' AND cs.state_key = ''
"""
# What we know of a room that we are not in any more says nothing about who is in it now.
_CONDITIONS_SQL = """
    SELECT EXISTS (
            SELECT 1 FROM local_current_membership m WHERE m.room_id = w.room_id AND m.membership = 'join') AS resident,
        EXISTS (SELECT 1 FROM current_state cs WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member'
            AND cs.state_key = %s AND cs.membership = 'join')
    FROM unnest(%s::text[]) AS w(room_id)
"""
_MEMBERS_SQL = "SELECT user_id FROM local_current_membership WHERE room_id = %s AND membership = 'join'"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is known of a user and the conditions of a room. `members`: our users in the room."""

    fulfilled: bool
    verifiable: bool
    members: tuple[str, ...]

    def check(self) -> None:
        """Raise Refused unless the user fulfils a condition."""
        if self.fulfilled:
            return
        # "The resident server uses a 400 M_UNABLE_TO_AUTHORISE_JOIN error … to denote that the resident server is
        # unable to validate any of the conditions"
        if not self.verifiable:
            raise Refused(400, "M_UNABLE_TO_AUTHORISE_JOIN", "This server cannot look into all rooms of the conditions")
        # "If the joining server fails all conditions then a 403 M_FORBIDDEN error is used by the resident server."
        raise Refused(403, "M_FORBIDDEN", "The user is in none of the rooms whose members may join")


def conditions_of(snapshot: Snapshot, room_id: str, user_id: str) -> Conditions:
    """What the tables know of the user and of the room's conditions."""
    row = snapshot.one(_JOIN_RULES_SQL, (room_id,))
    content = loads(restore(row[0])).get("content") if row else None
    rooms = list(dict.fromkeys(allowed_rooms(content if isinstance(content, dict) else {})))
    known = snapshot.rows(_CONDITIONS_SQL, (user_id, rooms)) if rooms else []
    members = tuple(restore(member) for (member,) in snapshot.rows(_MEMBERS_SQL, (room_id,)))
    fulfilled = any(resident and joined for resident, joined in known)
    # "If no conditions are available, or none match the required schema, then the joining server is considered to have
    # failed all conditions."
    return Conditions(fulfilled, all(resident for resident, _ in known), members)

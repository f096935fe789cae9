"""Which events wait for a policy server, and which server that is: as the tables have it."""

from __future__ import annotations

from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore, storable
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, event_of
from annals.matrix.policy_servers import PolicyServer, named_by
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.event_json import join_event

#: What one look takes up; the rest comes with the next.
WAITING_MAX = 100

_ROOMS_SQL = "SELECT DISTINCT room_id FROM events WHERE verdict = 'pending_policy'"
_WAITING_SQL = """
    SELECT event_id, room_version, client_json, federation_json FROM events
    WHERE room_id = %s AND verdict = 'pending_policy' ORDER BY source LIMIT %s
"""
# A redaction takes the content away.
_NAMED_SQL = """
    SELECT e.client_json FROM current_state c JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
    WHERE c.room_id = %s AND c.type = 'm.room.policy' AND c.state_key = '' AND e.redacted_by IS NULL
"""
# The server as the index has it (projectors/rooms/tables.py: current_state_joined_by_server).
_IS_IN_SQL = """
    SELECT 1 FROM current_state
    WHERE substr(state_key, strpos(state_key, ':') + 1) = %s AND room_id = %s
        AND type = 'm.room.member' AND membership = 'join' AND state_key LIKE '@%%:%%' LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in a room, oldest first, and who is to be asked (None: nobody any more)."""

    server: PolicyServer | None
    events: tuple[Event, ...]


def rooms_that_wait(snapshot: Snapshot) -> list[str]:
    """Every room in which an event waits."""
    return [restore(room_id) for (room_id,) in snapshot.rows(_ROOMS_SQL)]


def waiting_in(snapshot: Snapshot, room_id: str) -> Waiting:
    """What waits in the room."""
    rows = snapshot.rows(_WAITING_SQL, (storable(room_id), WAITING_MAX))
    events = tuple(_event(*row) for row in rows)
    return Waiting(policy_server_in(snapshot, room_id) if events else None, events)


def policy_server_in(snapshot: Snapshot, room_id: str) -> PolicyServer | None:
    """The policy server that the room uses by its current state (annals.rooms.policy says the same of a view)."""
    row = snapshot.one(_NAMED_SQL, (storable(room_id),))
    server = None if row is None else named_by(loads(restore(row[0]))["content"])
    if server is None or not server.server_name:
        return None
    is_in = snapshot.one(_IS_IN_SQL, (storable(server.server_name), storable(room_id)))
    return None if is_in is None else server


def _event(event_id: str, room_version: str, client_json: str, federation_json: str) -> Event:
    rules = ROOM_VERSIONS[room_version]
    return event_of(join_event(restore(client_json), restore(federation_json), rules), rules, restore(event_id))

"""What the runner reads: open handshakes, how one ended, and what of a room is here already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.ingest.handshakes.desk import Handshake
from annals.matrix.events import Event, parse_event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.read import join_event

OPEN_MAX = 1000

_OPEN_SQL = """
    SELECT handshake_id, room_id, kind, user_id, servers, content FROM handshakes
    WHERE outcome IS NULL AND attached_to IS NULL ORDER BY position LIMIT %s
"""
_OUTCOME_SQL = "SELECT outcome FROM handshakes WHERE room_id = %s AND handshake_id = %s"
_KNOWN_SQL = "SELECT event_id FROM events WHERE room_id = %s AND event_id = ANY(%s)"
_LAST_SQL = """
    SELECT e.event_id, e.room_version, e.client_json, e.federation_json
    FROM local_current_membership m JOIN events e ON e.room_id = m.room_id AND e.event_id = m.event_id
    WHERE m.room_id = %s AND m.user_id = %s AND m.membership IN ('invite', 'knock')
"""


@dataclass(frozen=True, slots=True)
class HandshakeTable:
    """The tables of the serving generation."""

    database: Database

    async def open(self) -> list[Handshake]:
        """What is begun and has no end yet, the oldest first."""
        return await self.database.read(_open)

    async def outcome(self, handshake: Handshake) -> str | None:
        """How a handshake ended; None where it has not."""
        params = (handshake.room_id, handshake.handshake_id)
        row = await self.database.read(lambda snapshot: snapshot.one(_OUTCOME_SQL, params))
        return None if row is None else row[0]

    async def known_events(self, room_id: str, event_ids: Sequence[str]) -> frozenset[str]:
        """Which of these events of the room we have."""
        rows = await self.database.read(lambda snapshot: snapshot.rows(_KNOWN_SQL, (room_id, list(event_ids))))
        return frozenset(restore(event_id) for (event_id,) in rows)

    async def invite_or_knock(self, room_id: str, user_id: str) -> Event | None:
        """The event by which the user is invited, or knocks."""
        return await self.database.read(lambda snapshot: _last(snapshot, room_id, user_id))


def _open(snapshot: Snapshot) -> list[Handshake]:
    found = []
    for handshake_id, room_id, kind, user_id, servers, content in snapshot.rows(_OPEN_SQL, (OPEN_MAX,)):
        # None where it was sealed and erased: what the user wanted to show, which the handshake can do without.
        shown = json.loads(restore(content)) if content else {}
        named = tuple(restore(server) for server in servers)
        found.append(Handshake(restore(handshake_id), restore(room_id), kind, restore(user_id), named, shown))
    return found


def _last(snapshot: Snapshot, room_id: str, user_id: str) -> Event | None:
    row = snapshot.one(_LAST_SQL, (room_id, user_id))
    if row is None:
        return None
    event_id, version, client_json, federation_json = row
    rules = ROOM_VERSIONS[version]
    pdu = join_event(restore(client_json), restore(federation_json), rules)
    return parse_event(pdu, rules, restore(event_id))

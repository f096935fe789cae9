"""Where aliases point to, and which rooms are published."""

from __future__ import annotations

import json
from dataclasses import dataclass

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore

# Enough to join through; a large room has thousands.
SERVERS_MAX = 50

_ALIAS_SQL = "SELECT room_id FROM aliases WHERE alias = %s"
_SERVERS_SQL = """
    SELECT DISTINCT substr(state_key, strpos(state_key, ':') + 1) FROM current_state
    WHERE room_id = %s AND type = 'm.room.member' AND membership = 'join' LIMIT %s
"""
_ALIASES_SQL = "SELECT alias FROM aliases WHERE room_id = %s ORDER BY alias"
_MEMBERSHIP_SQL = "SELECT membership FROM local_current_membership WHERE room_id = %s AND user_id = %s"
_VISIBILITY_SQL = """
    SELECT e.client_json FROM current_state c JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
    WHERE c.room_id = %s AND c.type = 'm.room.history_visibility' AND c.state_key = ''
"""
_ROOM_SQL = "SELECT 1 FROM rooms WHERE room_id = %s"
_PUBLISHED_SQL = "SELECT 1 FROM published_rooms WHERE room_id = %s"


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """The room of an alias, and servers that are in it, ours first."""

    room_id: str
    servers: list[str]


class AliasReads:
    """Queries on the directory of this server."""

    def __init__(self, database: Database, server_name: str) -> None:
        self._database, self._server_name = database, server_name

    async def resolve(self, alias: str) -> AliasTarget | None:
        """The room that one of our aliases points to."""

        def read(snapshot: Snapshot) -> AliasTarget | None:
            row = snapshot.one(_ALIAS_SQL, (alias,))
            if row is None:
                return None
            room_id = restore(row[0])
            servers = {restore(server) for (server,) in snapshot.rows(_SERVERS_SQL, (room_id, SERVERS_MAX))}
            return AliasTarget(room_id, [self._server_name, *sorted(servers - {self._server_name})])

        return await self._database.read(read)

    async def aliases_of(self, room_id: str, user_id: str) -> list[str] | None:
        """Our aliases of a room; None for who may not know: "joined, or the room is world_readable"."""

        def read(snapshot: Snapshot) -> list[str] | None:
            membership = snapshot.one(_MEMBERSHIP_SQL, (room_id, user_id))
            if (membership is None or membership[0] != "join") and not _is_world_readable(snapshot, room_id):
                return None
            return [restore(alias) for (alias,) in snapshot.rows(_ALIASES_SQL, (room_id,))]

        return await self._database.read(read)

    async def is_published(self, room_id: str) -> bool | None:
        """Whether a room is on the list; None for a room that we do not know."""

        def read(snapshot: Snapshot) -> bool | None:
            if snapshot.one(_ROOM_SQL, (room_id,)) is None:
                return None
            return snapshot.one(_PUBLISHED_SQL, (room_id,)) is not None

        return await self._database.read(read)


def _is_world_readable(snapshot: Snapshot, room_id: str) -> bool:
    row = snapshot.one(_VISIBILITY_SQL, (room_id,))
    return row is not None and json.loads(row[0])["content"].get("history_visibility") == "world_readable"

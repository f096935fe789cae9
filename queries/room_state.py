"""The state of a room as clients ask for it: now, or as it was when the user left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.queries.client_events import COLUMN_COUNT, COLUMNS, JOINS, EventRow, Viewer, client_text, event_row, shown
from annals.queries.errors import NoAccess, NotThere
from annals.queries.places import PlaceReader
from annals.queries.room_access import NOW, access_to

_MEMBER = "m.room.member"

# The entries as of a stream position: what changed from there on is taken back.
_STATE_SQL = """
    WITH later AS (
        SELECT DISTINCT ON (d.type, d.state_key) d.type, d.state_key, d.previous_event_id
        FROM current_state_deltas d WHERE d.room_id = %s AND d.position >= %s {wanted}
        ORDER BY d.type, d.state_key, d.position, d.ordinal
    ),
    entries AS (
        SELECT d.event_id FROM current_state d WHERE d.room_id = %s {wanted} AND NOT EXISTS (
            SELECT 1 FROM later l WHERE l.type = d.type AND l.state_key = d.state_key)
        UNION ALL
        SELECT l.previous_event_id FROM later l WHERE l.previous_event_id IS NOT NULL
    )
    SELECT {columns}, e.membership FROM entries s JOIN events e ON e.room_id = %s AND e.event_id = s.event_id {joins}
    ORDER BY e.position, e.event_id
"""
_JOINED_ROOMS_SQL = """
    SELECT room_id FROM local_current_membership WHERE user_id = %s AND membership = 'join' ORDER BY room_id
"""


@dataclass(frozen=True, slots=True)
class MembersWanted:
    """Which member events are asked for: `at` a token (None: now), by membership."""

    at: str | None = None
    membership: str | None = None
    not_membership: str | None = None

    def takes(self, membership: str | None) -> bool:
        """ "either the membership is the same as `membership` or is not the same as `not_membership`"."""
        if self.membership is None and self.not_membership is None:
            return True
        is_it = self.membership is not None and membership == self.membership
        return is_it or (self.not_membership is not None and membership != self.not_membership)


class RoomReads:
    """Queries on the state of rooms; answers are JSON texts. All raise NoAccess for strangers."""

    def __init__(self, database: Database, places: PlaceReader) -> None:
        self._database = database
        self._places = places

    async def state(self, viewer: Viewer, room_id: str) -> bytes:
        """All state events."""

        def read(snapshot: Snapshot) -> bytes:
            until = access_to(snapshot, room_id, viewer.user_id).until
            rows = state_as_of(snapshot, room_id, until)
            return b"[" + b",".join(shown(event, viewer) for event, _ in rows) + b"]"

        return await self._database.read(read)

    async def state_event(self, viewer: Viewer, room_id: str, key: tuple[str, str], whole: bool) -> bytes:
        """The event of one key (`whole`), or its content. Raises NotThere."""

        def read(snapshot: Snapshot) -> bytes:
            until = access_to(snapshot, room_id, viewer.user_id).until
            rows = state_as_of(snapshot, room_id, until, "AND d.type = %s AND d.state_key = %s", key)
            if not rows:
                raise NotThere(key)
            event = rows[0][0]
            return shown(event, viewer) if whole else canonical_bytes(loads(client_text(event))["content"])

        return await self._database.read(read)

    async def members(self, viewer: Viewer, room_id: str, wanted: MembersWanted) -> bytes:
        """Member events. Raises BadPlace for an `at` that is no token."""

        def read(snapshot: Snapshot) -> bytes:
            until = access_to(snapshot, room_id, viewer.user_id).until
            if wanted.at is not None:
                until = min(until, self._places.bound(snapshot, room_id, wanted.at))
            rows = state_as_of(snapshot, room_id, until, "AND d.type = %s", (_MEMBER,))
            events = [shown(event, viewer) for event, membership in rows if wanted.takes(membership)]
            return b'{"chunk":[' + b",".join(events) + b"]}"

        return await self._database.read(read)

    async def joined_members(self, viewer: Viewer, room_id: str) -> bytes:
        """Who is in the room, with what they are called; for its members only."""

        def read(snapshot: Snapshot) -> bytes:
            if not access_to(snapshot, room_id, viewer.user_id).joined:
                raise NoAccess(room_id)
            wanted = "AND d.type = %s AND d.membership = %s"
            rows = snapshot.rows(*_current_sql(room_id, wanted, (_MEMBER, "join")))
            return orjson.dumps({"joined": dict(_profile(event_row(row)) for row in rows)})

        return await self._database.read(read)

    async def joined_rooms(self, user_id: str) -> list[str]:
        """The rooms that the user is in."""
        rows = await self._database.read(lambda snapshot: snapshot.rows(_JOINED_ROOMS_SQL, (user_id,)))
        return [restore(room_id) for (room_id,) in rows]


def state_as_of(
    snapshot: Snapshot, room_id: str, until: int, wanted: str = "", params: Sequence[Any] = ()
) -> list[tuple[EventRow, str | None]]:
    """The state events, with their membership, as of a stream position; `wanted` is a condition on `d`."""
    if until == NOW:
        sql, all_params = _current_sql(room_id, wanted, params)
    else:
        sql = _STATE_SQL.format(wanted=wanted, columns=COLUMNS, joins=JOINS)
        all_params = (room_id, until, *params, room_id, *params, room_id)
    return [(event_row(row), row[COLUMN_COUNT]) for row in snapshot.rows(sql, all_params)]


def _current_sql(room_id: str, wanted: str, params: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    sql = f"""
        SELECT {COLUMNS}, e.membership FROM current_state d
        JOIN events e ON e.room_id = d.room_id AND e.event_id = d.event_id {JOINS}
        WHERE d.room_id = %s {wanted} ORDER BY e.position, e.event_id
    """
    return sql, (room_id, *params)


def _profile(event: EventRow) -> tuple[str, dict[str, str]]:
    content = loads(client_text(event))["content"]
    named = (("display_name", content.get("displayname")), ("avatar_url", content.get("avatar_url")))
    return event.state_key or "", {name: value for name, value in named if isinstance(value, str)}

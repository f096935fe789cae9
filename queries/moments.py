"""GET /timestamp_to_event: the event of a room nearest to a moment.

Where the room has a gap there, or nothing at all, others are asked first: they may have what is nearer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.queries.client_events import COLUMNS, JOINS, VISIBLE, EventRow, Viewer, event_row
from annals.queries.errors import NotThere
from annals.queries.history import visible_to
from annals.queries.room_access import Access, access_to

# Of events near a moment this many are looked at, until one is found that the user may see.
_NEAR_MAX = 50
# Of those that follow a moment this many say whether something lies before them that we lack.
_BEHIND_MAX = 5

_NEAR_SQL = f"""
    SELECT {COLUMNS} FROM events e {JOINS}
    WHERE e.room_id = %s AND e.origin_server_ts {{compare}} %s AND e.position < %s AND {VISIBLE}
    ORDER BY e.origin_server_ts {{order}}, e.depth {{order}}, e.event_id LIMIT {_NEAR_MAX}
"""
_KNOWN = "NOT {0}.outlier AND {0}.verdict IN ('accepted', 'soft_failed', 'rejected', 'pending_policy')"
# A room whose state nobody gave us has all of its past here.
_GAP_SQL = f"""
    SELECT EXISTS (SELECT 1 FROM state_sets s WHERE s.room_id = %s) AND EXISTS (
        SELECT 1 FROM (
            SELECT e.prev_events FROM events e
            WHERE e.room_id = %s AND e.origin_server_ts >= %s AND {VISIBLE}
            ORDER BY e.origin_server_ts LIMIT {_BEHIND_MAX}
        ) AS near CROSS JOIN LATERAL unnest(near.prev_events) AS prev(event_id)
        WHERE NOT EXISTS (SELECT 1 FROM events k
            WHERE k.room_id = %s AND k.event_id = prev.event_id AND {_KNOWN.format("k")}))
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, milliseconds since 1970, and whether the first event from then on is wanted, or the last one until."""

    at_ms: int
    forwards: bool


@dataclass(frozen=True, slots=True)
class Near:
    """The event found."""

    event_id: str
    ts_ms: int


AskOthers = Callable[[str, int, bool, int | None], Awaitable[str | None]]
"""(room id, at_ms, forwards, time of the nearest event here): the id of one that is nearer, by now in our tables."""


class Moments:
    """Looks for events by their time."""

    def __init__(self, database: Database, others: AskOthers | None = None) -> None:
        self._database, self._others = database, others

    async def near(self, viewer: Viewer, room_id: str, moment: Moment) -> Near:
        """The nearest event that the user may see. Raises NoAccess, NotThere."""
        found, access, gap = await self._database.read(lambda snapshot: _look(snapshot, viewer, room_id, moment))
        # Nobody is asked for who is not in the room.
        if self._others is not None and access.joined and (found is None or gap):
            nearest = None if found is None else found.ts_ms
            if await self._others(room_id, moment.at_ms, moment.forwards, nearest) is not None:
                found, _, _ = await self._database.read(lambda snapshot: _look(snapshot, viewer, room_id, moment))
        if found is None:
            raise NotThere(moment)
        return found


def _look(snapshot: Snapshot, viewer: Viewer, room_id: str, moment: Moment) -> tuple[Near | None, Access, bool]:
    access = access_to(snapshot, room_id, viewer.user_id)
    compare, order = (">=", "ASC") if moment.forwards else ("<=", "DESC")
    sql = _NEAR_SQL.format(compare=compare, order=order)
    events = [event_row(row) for row in snapshot.rows(sql, (room_id, moment.at_ms, access.until))]
    gap = bool(snapshot.rows(_GAP_SQL, (room_id, room_id, moment.at_ms, room_id))[0][0])
    return _first_visible(snapshot, events, viewer), access, gap


def _first_visible(snapshot: Snapshot, events: list[EventRow], viewer: Viewer) -> Near | None:
    visible = visible_to(snapshot, events, viewer.user_id)
    for event in events:
        if event.event_id in visible:
            return Near(event.event_id, event.origin_server_ts)
    return None

"""The timelines of a /sync: the newest events of each room within the user's windows, all rooms in one query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.queries.client_events import COLUMN_COUNT, COLUMNS, JOINS, VISIBLE, EventRow, event_row
from annals.queries.history import visible_to
from annals.queries.pages import PageToken, before_position
from annals.queries.sync.filters import EventFilter
from annals.queries.sync.rooms import SyncRoom

# Newest first within each window; one more than asked for says that there are older ones.
_TIMELINES_SQL = """
    SELECT {columns}, w.number
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS w(room_id, low, high, number)
    CROSS JOIN LATERAL (
        SELECT * FROM events e
        WHERE e.room_id = w.room_id AND e.position >= w.low AND e.position < w.high
            AND {visible} AND NOT e.backfilled {condition}
        ORDER BY e.position DESC LIMIT %s
    ) AS e
    {joins}
    ORDER BY w.number, e.position DESC
"""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The part of a room's timeline that a /sync shows, oldest first. `start` is where the room state stands that the
    timeline begins with: a stream position. /messages goes on backwards from `prev_batch`."""

    events: tuple[EventRow, ...]
    limited: bool
    prev_batch: PageToken
    start: int


def timelines(
    snapshot: Snapshot, rooms: Sequence[SyncRoom], wanted: EventFilter, user_id: str
) -> Mapping[str, Timeline]:
    """The timelines of these rooms, by room id."""
    found = _read(snapshot, [room for room in rooms if wanted.takes_room(room.room_id)], wanted)
    known = {room.room_id: room.known for room in rooms if room.known is not None}
    visible = visible_to(snapshot, [event for of_room in found.values() for event in of_room], user_id, known)
    return {room.room_id: _timeline(room, found.get(room.room_id, []), wanted.limit, visible) for room in rooms}


def _read(snapshot: Snapshot, rooms: Sequence[SyncRoom], wanted: EventFilter) -> dict[str, list[EventRow]]:
    """Events by room, newest first, one more than the limit where there are older ones."""
    windows = [(room.room_id, window) for room in rooms for window in reversed(room.windows())]
    if not windows:
        return {}
    condition, params = wanted.sql()
    sql = _TIMELINES_SQL.format(columns=COLUMNS, visible=VISIBLE, condition=condition, joins=JOINS)
    rows = snapshot.rows(
        sql,
        (
            [room_id for room_id, _ in windows],
            [window.start for _, window in windows],
            [window.end for _, window in windows],
            *params,
            wanted.limit + 1,
        ),
    )
    found: dict[str, list[EventRow]] = {}
    for row in rows:
        room_id, _ = windows[row[COLUMN_COUNT] - 1]
        found.setdefault(room_id, []).append(event_row(row))
    return found


def _timeline(room: SyncRoom, newest_first: Sequence[EventRow], limit: int, visible: Collection[str]) -> Timeline:
    events: list[EventRow] = []
    limited = len(newest_first) > limit
    for event in newest_first[:limit]:
        if event.event_id in visible:
            events.insert(0, event)
        elif event.state_key is not None:
            # A change of the state that may not be seen: the timeline begins behind it, or its state would be wrong.
            limited = True
            break
    # A client that had something else of this room must begin anew.
    limited = limited or (room.fresh and room.since > 0)
    start = events[0].position if events else min(room.now, room.stay_end)
    return Timeline(tuple(events), limited, before_position(start), start)

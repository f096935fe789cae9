"""The timelines of a /sync: the newest events of each room within the user's windows, all rooms in one query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.client_events import COLUMN_COUNT, COLUMNS, JOINS, VISIBLE, EventRow, event_row
from annals.queries.history import visible_to
from annals.queries.pages import PageToken
from annals.queries.sync.filters import EventFilter
from annals.queries.sync.rooms import END, SyncRoom

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
# The highest event, in the order of /messages, of those that came before a timeline.
_BEFORE_SQL = """
    SELECT w.room_id, b.depth, b.position
    FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, first)
    CROSS JOIN LATERAL (
        SELECT e.depth, e.position FROM events e
        WHERE e.room_id = w.room_id AND (e.position < w.first OR e.backfilled) AND {visible}
        ORDER BY e.depth DESC, e.position DESC LIMIT 1
    ) AS b
"""
_MOVED_SQL = """
    SELECT DISTINCT e.room_id FROM unnest(%s::smallint[], %s::bigint[]) AS w(partition, low)
    JOIN events e ON e.partition = w.partition AND e.position >= w.low
"""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The part of a room's timeline that a /sync shows, oldest first. `start` is where the room state stands that the
    timeline begins with: the stream position of its first event, or END where it has none."""

    events: tuple[EventRow, ...]
    limited: bool
    prev_batch: PageToken | None
    start: int


def moved_rooms(snapshot: Snapshot, partitions: Sequence[int], bounds: Sequence[int]) -> frozenset[str]:
    """The rooms in which anything was decided from these stream positions on."""
    rows = snapshot.rows(_MOVED_SQL, (list(partitions), list(bounds)))
    return frozenset(restore(room_id) for (room_id,) in rows)


def timelines(
    snapshot: Snapshot, rooms: Sequence[SyncRoom], wanted: EventFilter, user_id: str
) -> Mapping[str, Timeline]:
    """The timelines of these rooms, by room id."""
    shown = [room for room in rooms if wanted.takes_room(room.room_id)]
    found = _read(snapshot, shown, wanted)
    checked = [room.room_id for room in shown if room.whole and room.membership == "join"]
    hidden = _hidden(snapshot, {room_id: found.get(room_id, []) for room_id in checked}, user_id)
    cut = {room.room_id: _cut(room, found.get(room.room_id, []), wanted.limit, hidden) for room in rooms}
    before = _before(snapshot, {room_id: events for room_id, (events, _) in cut.items() if events})
    made = {}
    for room_id, (events, limited) in cut.items():
        start = events[0].position if events else END
        made[room_id] = Timeline(tuple(events), limited, before.get(room_id), start)
    return made


def _read(snapshot: Snapshot, rooms: Sequence[SyncRoom], wanted: EventFilter) -> dict[str, list[EventRow]]:
    """Events by room, newest first, one more than the limit where there are older ones."""
    windows = [(room.room_id, window) for room in rooms for window in reversed(room.windows())]
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


def _cut(
    room: SyncRoom, newest_first: Sequence[EventRow], limit: int, hidden: Collection[str]
) -> tuple[list[EventRow], bool]:
    events = [event for event in newest_first[:limit] if event.event_id not in hidden]
    # A gap between two stays is for /messages to show, where the room's history may be seen.
    gap = len(room.windows()) > 1 and room.membership == "join"
    rebuilt = room.whole and room.since > 0
    return events[::-1], len(newest_first) > limit or gap or rebuilt


def _hidden(snapshot: Snapshot, events: Mapping[str, Sequence[EventRow]], user_id: str) -> frozenset[str]:
    visible = visible_to(snapshot, [event for of_room in events.values() for event in of_room], user_id)
    return frozenset(e.event_id for of_room in events.values() for e in of_room if e.event_id not in visible)


def _before(snapshot: Snapshot, events: Mapping[str, Sequence[EventRow]]) -> dict[str, PageToken]:
    """Where /messages goes on backwards, so that it shows everything that came before the timeline."""
    if not events:
        return {}
    tokens = {room_id: PageToken(of_room[0].depth, of_room[0].position) for room_id, of_room in events.items()}
    firsts = [of_room[0].position for of_room in events.values()]
    for room_id, depth, position in snapshot.rows(_BEFORE_SQL.format(visible=VISIBLE), (list(events), firsts)):
        tokens[restore(room_id)] = PageToken(depth, position + 1)
    return tokens

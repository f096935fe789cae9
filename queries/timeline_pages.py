"""One page of a room's timeline in the order (depth, stream position), of what a user may see.

Work is bounded whatever the room is like: a page that met too much that is hidden, or that a filter leaves out, ends
early, and its token goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from annals.database.snapshot import Snapshot
from annals.queries.client_events import COLUMNS, JOINS, VISIBLE, EventRow, event_row
from annals.queries.history import visible_to
from annals.queries.pages import NEWEST, OLDEST, PageToken
from annals.queries.sync.filters import EventFilter

#: Events whose visibility one page looks at, and events that a filter may leave out of one page.
JUDGED_MAX = 2_500
SKIPPED_MAX = 20_000
_BATCH_MIN, _BATCH_MAX = 20, 500

_BACKWARDS_SQL = """
    SELECT {columns} FROM (
        SELECT * FROM events e
        WHERE e.room_id = %s AND (e.depth, e.position) < (%s, %s) AND (e.depth, e.position) >= (%s, %s)
            AND e.position >= %s AND (e.position < %s OR e.backfilled) AND e.position < %s AND {visible} {condition}
        ORDER BY e.depth DESC, e.position DESC LIMIT %s
    ) AS e {joins} ORDER BY e.depth DESC, e.position DESC
"""
_FORWARDS_SQL = """
    SELECT {columns} FROM (
        SELECT * FROM events e
        WHERE e.room_id = %s AND (e.depth, e.position) >= (%s, %s) AND (e.depth, e.position) < (%s, %s)
            AND e.position >= %s AND (e.position < %s OR e.backfilled) AND e.position < %s AND {visible} {condition}
        ORDER BY e.depth, e.position LIMIT %s
    ) AS e {joins} ORDER BY e.depth, e.position
"""
_FAR_BACKWARDS_SQL = """
    SELECT e.depth, e.position FROM events e WHERE e.room_id = %s AND (e.depth, e.position) < (%s, %s)
    ORDER BY e.depth DESC, e.position DESC OFFSET %s LIMIT 1
"""
_FAR_FORWARDS_SQL = """
    SELECT e.depth, e.position FROM events e WHERE e.room_id = %s AND (e.depth, e.position) >= (%s, %s)
    ORDER BY e.depth, e.position OFFSET %s LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Up to `limit` events of a room from `start` on, not beyond `stop`, within the bounds of both. `until`: only what
    became visible below that stream position. `condition`, on `events e`, comes with its `params`."""

    room_id: str
    user_id: str
    start: PageToken
    backwards: bool
    limit: int
    until: int
    stop: PageToken | None = None
    wanted: EventFilter = field(default_factory=EventFilter)
    condition: str = ""
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Events in the order of the request, and where the next page begins; None: nothing is left."""

    events: tuple[EventRow, ...]
    end: PageToken | None


def read_page(snapshot: Snapshot, request: PageRequest) -> Page:
    """The page that is asked for."""
    if not request.wanted.takes_room(request.room_id):
        return Page((), None)
    far = _far(snapshot, request)
    shown: list[EventRow] = []
    at, judged, size = request.start, 0, max(_BATCH_MIN, request.limit + 1)
    while True:
        size = min(size, _BATCH_MAX)
        batch = _batch(snapshot, request, at, far, size)
        visible = visible_to(snapshot, batch, request.user_id)
        for event in batch:
            if event.event_id in visible:
                if len(shown) >= request.limit:
                    return Page(tuple(shown), at)
                shown.append(event)
            at = _past(event, request)
        if len(batch) < size:
            return Page(tuple(shown), far)
        judged += len(batch)
        if judged >= JUDGED_MAX:
            return Page(tuple(shown), at)
        size *= 2


def _past(event: EventRow, request: PageRequest) -> PageToken:
    position = event.position if request.backwards else event.position + 1
    return replace(request.start, depth=event.depth, position=position)


def _bounds(request: PageRequest) -> tuple[int, int]:
    """Stream positions, from and up to: of a page backwards `start` says the latter and `stop` the former."""
    start, stop = request.start, request.stop
    if request.backwards:
        return stop.above if stop else 0, start.below
    return start.above, stop.below if stop else NEWEST.below


def _far(snapshot: Snapshot, request: PageRequest) -> PageToken | None:
    """Where a page must end because its filter might leave out everything; None where there is no such danger."""
    if request.wanted.takes_all_events:
        return None
    sql = _FAR_BACKWARDS_SQL if request.backwards else _FAR_FORWARDS_SQL
    start = request.start
    row = snapshot.one(sql, (request.room_id, start.depth, start.position, SKIPPED_MAX))
    if row is None:
        return None
    far = replace(start, depth=row[0], position=row[1])
    stop = request.stop
    beyond = stop is not None and (far <= stop if request.backwards else far >= stop)
    return None if beyond else far


def _batch(
    snapshot: Snapshot, request: PageRequest, at: PageToken, far: PageToken | None, size: int
) -> Sequence[EventRow]:
    condition, params = request.wanted.sql()
    stop = far or request.stop or (OLDEST if request.backwards else NEWEST)
    sql = _BACKWARDS_SQL if request.backwards else _FORWARDS_SQL
    rows = snapshot.rows(
        sql.format(columns=COLUMNS, visible=VISIBLE, condition=condition + request.condition, joins=JOINS),
        (
            request.room_id,
            at.depth,
            at.position,
            stop.depth,
            stop.position,
            *_bounds(request),
            request.until,
            *params,
            *request.params,
            size,
        ),
    )
    return [event_row(row) for row in rows]

"""The state sections of a /sync.

The state that goes with a timeline is the room's *current state as it was when the timeline began*, rebuilt from the
stream of changes: never the state before some event of a fork, which may be older than what the client was shown. With
`use_state_after` it is the current state at the end of the timeline, which no order of a fork's events can falsify.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.snapshot import Snapshot
from annals.queries.client_events import COLUMNS, JOINS, EventRow, event_row
from annals.queries.sync.filters import EventFilter
from annals.queries.sync.rooms import END, SyncRoom
from annals.queries.sync.timelines import Timeline

_MEMBER = "m.room.member"

# The entries of each room's current state as of `start`: what changed since is taken back. Members only where asked.
_AS_OF_SQL = """
    WITH w AS (SELECT * FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, start)),
    later AS (
        SELECT DISTINCT ON (d.room_id, d.type, d.state_key) d.room_id, d.type, d.state_key, d.previous_event_id
        FROM w JOIN current_state_deltas d ON d.room_id = w.room_id AND d.position >= w.start
        ORDER BY d.room_id, d.type, d.state_key, d.position, d.ordinal
    ),
    entries AS (
        SELECT cs.room_id, CASE WHEN l.room_id IS NULL THEN cs.event_id ELSE l.previous_event_id END AS event_id
        FROM w JOIN current_state cs ON cs.room_id = w.room_id
        LEFT JOIN later l ON l.room_id = cs.room_id AND l.type = cs.type AND l.state_key = cs.state_key
        WHERE %s OR cs.type < 'm.room.member' OR cs.type > 'm.room.member'
        UNION ALL
        SELECT l.room_id, l.previous_event_id FROM later l
        WHERE (%s OR l.type <> 'm.room.member') AND NOT EXISTS (
            SELECT 1 FROM current_state cs
            WHERE cs.room_id = l.room_id AND cs.type = l.type AND cs.state_key = l.state_key)
    )
    SELECT {columns} FROM entries s JOIN events e ON e.room_id = s.room_id AND e.event_id = s.event_id {joins}
    ORDER BY e.room_id, e.position, e.event_id
"""
# The member events of some users as of `start`.
_MEMBERS_SQL = """
    WITH w AS (SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS w(room_id, start, user_id)),
    entries AS (
        SELECT w.room_id, CASE WHEN l.found THEN l.previous_event_id ELSE cs.event_id END AS event_id
        FROM w
        LEFT JOIN current_state cs
            ON cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key = w.user_id
        LEFT JOIN LATERAL (
            SELECT TRUE AS found, d.previous_event_id FROM current_state_deltas d
            WHERE d.room_id = w.room_id AND d.type = 'm.room.member' AND d.state_key = w.user_id
                AND d.position >= w.start
            ORDER BY d.position, d.ordinal LIMIT 1
        ) AS l ON TRUE
    )
    SELECT {columns} FROM entries s JOIN events e ON e.room_id = s.room_id AND e.event_id = s.event_id {joins}
    ORDER BY e.room_id, e.position, e.event_id
"""
# The last change of each key within [low, high).
_CHANGES_SQL = """
    WITH w AS (SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS w(room_id, low, high)),
    changes AS (
        SELECT DISTINCT ON (d.room_id, d.type, d.state_key) d.room_id, d.event_id
        FROM w JOIN current_state_deltas d
            ON d.room_id = w.room_id AND d.position >= w.low AND d.position < w.high
        ORDER BY d.room_id, d.type, d.state_key, d.position DESC, d.ordinal DESC
    )
    SELECT {columns} FROM changes s JOIN events e ON e.room_id = s.room_id AND e.event_id = s.event_id
    {joins}
    ORDER BY e.room_id, e.position, e.event_id
"""


@dataclass(frozen=True, slots=True)
class StateQuestion:
    """Which state of a room is asked for: as of `at`, all of it or what changed from `since` on."""

    room: SyncRoom
    at: int
    members: frozenset[str]


def questions(
    rooms: Sequence[SyncRoom], timelines: Mapping[str, Timeline], user_id: str, after: bool
) -> list[StateQuestion]:
    """What to ask for each room, given the timelines that are shown. `after`: the state at the timeline's end."""
    asked = []
    for room in rooms:
        timeline = timelines[room.room_id]
        end = max((window.end for window in room.windows()), default=END)
        at = end if after else min(timeline.start, end)
        senders = frozenset(event.sender for event in timeline.events)
        asked.append(StateQuestion(room, at, senders | {user_id}))
    return asked


def state_of(snapshot: Snapshot, asked: Sequence[StateQuestion], wanted: EventFilter) -> dict[str, list[EventRow]]:
    """The state events of each room's section, by room id, in an order that does not change."""
    lazy = wanted.lazy_load_members
    found: dict[str, dict[str, EventRow]] = {}
    whole = [question for question in asked if question.room.whole]
    if whole:
        starts = [question.at for question in whole]
        _collect(found, snapshot, _AS_OF_SQL, ([q.room.room_id for q in whole], starts, not lazy, not lazy))
    if lazy:
        members = [(q.room.room_id, q.at, user_id) for q in asked for user_id in sorted(q.members)]
        _collect(found, snapshot, _MEMBERS_SQL, tuple([m[column] for m in members] for column in range(3)))
    changed = [question for question in asked if not question.room.whole and question.room.since < question.at]
    if changed:
        lows, highs = [q.room.since for q in changed], [q.at for q in changed]
        _collect(found, snapshot, _CHANGES_SQL, ([q.room.room_id for q in changed], lows, highs))
    return {
        room_id: [e for e in events.values() if wanted.takes_type(e.type) and wanted.takes_sender(e.sender)]
        for room_id, events in found.items()
    }


def _collect(found: dict[str, dict[str, EventRow]], snapshot: Snapshot, sql: str, params: Sequence[Any]) -> None:
    for row in snapshot.rows(sql.format(columns=COLUMNS, joins=JOINS), params):
        event = event_row(row)
        found.setdefault(event.room_id, {})[event.event_id] = event

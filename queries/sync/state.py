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
from annals.queries.sync.rooms import SyncRoom
from annals.queries.sync.timelines import Timeline

# The entries of each room's current state as of `at`: what changed since is taken back. Members only where asked.
_WHOLE_TABLES = """
    w AS (SELECT * FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, at)),
    later AS (
        SELECT DISTINCT ON (d.room_id, d.type, d.state_key) d.room_id, d.type, d.state_key, d.previous_event_id
        FROM w JOIN current_state_deltas d ON d.room_id = w.room_id AND d.position >= w.at
        ORDER BY d.room_id, d.type, d.state_key, d.position, d.ordinal
    ),
    whole AS (
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
"""
# The last change of each key within [low, high).
_CHANGES_TABLE = """
    changes AS (
        SELECT DISTINCT ON (d.room_id, d.type, d.state_key) d.room_id, d.event_id
        FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS w(room_id, low, high)
        JOIN current_state_deltas d ON d.room_id = w.room_id AND d.position >= w.low AND d.position < w.high
        ORDER BY d.room_id, d.type, d.state_key, d.position DESC, d.ordinal DESC
    )
"""
# The member events of some users as of `at`.
_MEMBERS_TABLE = """
    members AS (
        SELECT w.room_id, CASE WHEN l.found THEN l.previous_event_id ELSE cs.event_id END AS event_id
        FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS w(room_id, at, user_id)
        LEFT JOIN current_state cs
            ON cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key = w.user_id
        LEFT JOIN LATERAL (
            SELECT TRUE AS found, d.previous_event_id FROM current_state_deltas d
            WHERE d.room_id = w.room_id AND d.type = 'm.room.member' AND d.state_key = w.user_id
                AND d.position >= w.at
            ORDER BY d.position, d.ordinal LIMIT 1
        ) AS l ON TRUE
    )
"""
_STATE_SQL = """
    WITH {tables}, named AS ({selects})
    SELECT {columns} FROM named s JOIN events e ON e.room_id = s.room_id AND e.event_id = s.event_id {joins}
    ORDER BY e.room_id, e.position, e.event_id
"""


@dataclass(frozen=True, slots=True)
class StateQuestion:
    """Which state of a room is asked for: as of `at`, all of it or what changed since the token. `members`: who is to
    be among it however members are loaded, each as of a stream position."""

    room: SyncRoom
    at: int
    members: Mapping[str, int]


def questions(
    rooms: Sequence[SyncRoom], timelines: Mapping[str, Timeline], user_id: str, after: bool, lazy: bool
) -> list[StateQuestion]:
    """What to ask for each room, given the timelines that are shown. `after`: the state at the timeline's end."""
    asked = []
    for room in rooms:
        timeline, end = timelines[room.room_id], min(room.now, room.stay_end)
        at = end if after else min(timeline.start, end)
        members = dict.fromkeys({event.sender for event in timeline.events} | {user_id}, at) if lazy else {}
        if after and room.membership != "join":
            # What became of the user after the last stay is in the timeline, and so belongs into the state after it.
            members[user_id] = room.now
        asked.append(StateQuestion(room, at, members))
    return asked


def state_of(snapshot: Snapshot, asked: Sequence[StateQuestion], wanted: EventFilter) -> dict[str, list[EventRow]]:
    """The state events of each room's section, by room id, in an order that does not change."""
    asked = [question for question in asked if wanted.takes_room(question.room.room_id)]
    every = not wanted.lazy_load_members
    whole = [question for question in asked if question.room.whole]
    changed = [question for question in asked if not question.room.whole and question.room.since < question.at]
    members = [(q.room.room_id, at, user_id) for q in asked for user_id, at in sorted(q.members.items())]
    tables: list[tuple[str, str, tuple[Any, ...]]] = []
    if whole:
        tables.append(("whole", _WHOLE_TABLES, (_ids(whole), [q.at for q in whole], every, every)))
    if changed:
        bounds = ([q.room.since for q in changed], [q.at for q in changed])
        tables.append(("changes", _CHANGES_TABLE, (_ids(changed), *bounds)))
    if members:
        tables.append(("members", _MEMBERS_TABLE, tuple([member[n] for member in members] for n in range(3))))
    if not tables:
        return {}
    found: dict[str, dict[tuple[str, str | None], EventRow]] = {}
    for row in snapshot.rows(_sql(tables), [param for _, _, params in tables for param in params]):
        event = event_row(row)
        # Of one key two may be named: where members are asked for as of a later position, which is then the later one.
        found.setdefault(event.room_id, {})[event.type, event.state_key] = event
    return {
        room_id: [event for event in entries.values() if _takes(wanted, event)] for room_id, entries in found.items()
    }


def _takes(wanted: EventFilter, event: EventRow) -> bool:
    return wanted.takes_type(event.type) and wanted.takes_sender(event.sender)


def _ids(asked: Sequence[StateQuestion]) -> list[str]:
    return [question.room.room_id for question in asked]


def _sql(tables: Sequence[tuple[str, str, tuple[Any, ...]]]) -> str:
    selects = " UNION ALL ".join(f"SELECT room_id, event_id FROM {name}" for name, _, _ in tables)
    texts = ",".join(text for _, text, _ in tables)
    return _STATE_SQL.format(tables=texts, selects=selects, columns=COLUMNS, joins=JOINS)

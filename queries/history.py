"""Which events of a room a user may see: history visibility, by the state at each event (security row 32).

The state before an event names the visibility and the user's membership there; both are read from the stored states of
all events at once. A room whose visibility was never anything but shared or world_readable needs no look at single
events once the user is in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, event_of
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.visibility import HistoryVisibility, may_see
from annals.projectors.rooms.read import state_entries
from annals.queries.client_events import EventRow

_VISIBILITY = ("m.room.history_visibility", "")
_MEMBER = "m.room.member"
_OPEN = frozenset((HistoryVisibility.SHARED, HistoryVisibility.WORLD_READABLE))

_SETTINGS_SQL = """
    SELECT d.room_id, e.client_json FROM current_state_deltas d
    JOIN events e ON e.room_id = d.room_id AND e.event_id = d.event_id
    WHERE d.room_id = ANY (%s) AND d.type = 'm.room.history_visibility' AND d.state_key = ''
"""
_MEMBERSHIPS_SQL = """
    SELECT room_id, membership FROM local_current_membership WHERE room_id = ANY (%s) AND user_id = %s
"""
_LAST_JOINS_SQL = """
    SELECT room_id, max(position) FROM current_state_deltas
    WHERE room_id = ANY (%s) AND type = 'm.room.member' AND state_key = %s AND membership = 'join'
    GROUP BY room_id
"""
_CONTENTS_SQL = """
    SELECT e.room_id, e.event_id, e.client_json
    FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
    JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a user stands with a room now."""

    membership: str | None
    last_join: int | None
    """Stream position of the user's latest join."""


def visible_to(snapshot: Snapshot, events: Sequence[EventRow], user_id: str) -> frozenset[str]:
    """The ids of those of these events that the user may see."""
    room_ids = sorted({event.room_id for event in events})
    if not room_ids:
        return frozenset()
    standings = standings_of(snapshot, room_ids, user_id)
    open_rooms = _always_open(snapshot, room_ids)
    seen = {e.event_id for e in events if e.room_id in open_rooms and standings[e.room_id].membership == "join"}
    doubtful = [e for e in events if e.event_id not in seen]
    return frozenset(seen | _judged(snapshot, doubtful, user_id, standings))


def standings_of(snapshot: Snapshot, room_ids: Collection[str], user_id: str) -> dict[str, Standing]:
    """Where the user stands with each of the rooms."""
    ids = list(room_ids)
    memberships = {restore(r): m for r, m in snapshot.rows(_MEMBERSHIPS_SQL, (ids, user_id))}
    joins = {restore(r): p for r, p in snapshot.rows(_LAST_JOINS_SQL, (ids, user_id))}
    return {room_id: Standing(memberships.get(room_id), joins.get(room_id)) for room_id in room_ids}


def _always_open(snapshot: Snapshot, room_ids: Sequence[str]) -> frozenset[str]:
    """Rooms whose history was open to every member at all times."""
    closed = set()
    for room_id, text in snapshot.rows(_SETTINGS_SQL, (list(room_ids),)):
        if _setting(loads(restore(text)).get("content")) not in _OPEN:
            closed.add(restore(room_id))
    return frozenset(room_ids) - closed


def _judged(
    snapshot: Snapshot, events: Sequence[EventRow], user_id: str, standings: Mapping[str, Standing]
) -> set[str]:
    if not events:
        return set()
    member = (_MEMBER, user_id)
    wanted = {(e.room_id, e.state_before, *key) for e in events if e.state_before for key in (_VISIBILITY, member)}
    state = {
        (room_id, state_id, event_type): event_id
        for (room_id, state_id, event_type, _), event_id in state_entries(snapshot, wanted).items()
        if event_id is not None
    }
    contents = _contents(snapshot, {(room_id, event_id) for (room_id, _, _), event_id in state.items()})

    def content(event: EventRow, event_type: str) -> object:
        event_id = state.get((event.room_id, event.state_before or 0, event_type))
        return contents.get((event.room_id, event_id)) if event_id else None

    seen = set()
    for row in events:
        membership = content(row, _MEMBER)
        standing = standings[row.room_id]
        if may_see(
            _event(row),
            user_id,
            visibility=_setting(content(row, _VISIBILITY[0])),
            membership=membership.get("membership") if isinstance(membership, dict) else None,
            joined_later=standing.last_join is not None and standing.last_join > row.position,
        ):
            seen.add(row.event_id)
    return seen


def _contents(snapshot: Snapshot, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], object]:
    pairs = sorted(wanted)
    rows = snapshot.rows(_CONTENTS_SQL, ([room for room, _ in pairs], [event for _, event in pairs]))
    return {(restore(room), restore(event)): loads(restore(text)).get("content") for room, event, text in rows}


def _setting(content: object) -> HistoryVisibility:
    value = content.get("history_visibility") if isinstance(content, dict) else None
    known = isinstance(value, str) and value in frozenset(HistoryVisibility)
    return HistoryVisibility(value) if known and isinstance(value, str) else HistoryVisibility.SHARED


def _event(row: EventRow) -> Event:
    """As much of the event as visibility looks at."""
    pdu = {**orjson.loads(restore(row.client_json)), "prev_events": [], "auth_events": [], "depth": row.depth}
    return event_of(pdu, ROOM_VERSIONS[row.room_version], row.event_id)

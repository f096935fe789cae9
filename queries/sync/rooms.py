"""Which rooms a /sync shows, in which section, and which part of each timeline belongs to the user.

A user's membership over stream positions makes *stays*. Who is in a room is shown what became visible from the token
on; who left, what did until the end of the last stay, and from then on only what became of their own membership: not
what was said before a ban that came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.history import Known, known_of
from annals.queries.stays import END, Transition, left_at
from annals.queries.sync.request import SyncRequest
from annals.queries.sync.token import SyncToken
from annals.schemas.position import step_start

#: From how many new records on each room is asked by itself whether it moved, instead of the records for their rooms.
_RECORDS_FEW = 2_000

# `gone`: state resolution may take a user out of a room by an event that is not theirs, and leave no member event.
# `told`: a switch of generations made the user's membership another one, or left none; the room may be gone with it.
_ROOMS_SQL = """
    WITH w AS (SELECT * FROM unnest(%s::smallint[], %s::bigint[]) AS w(partition, low)), {moved},
    gone AS (
        SELECT DISTINCT d.room_id, d.partition
        FROM moved JOIN current_state_deltas d ON d.room_id = moved.room_id AND d.position >= moved.low
            AND d.type = 'm.room.member' AND d.state_key = %s AND d.event_id IS NULL
        WHERE NOT EXISTS (
            SELECT 1 FROM local_current_membership m WHERE m.room_id = d.room_id AND m.user_id = %s)
    ),
    told AS (
        SELECT t.room_id, t.partition
        FROM w JOIN memberships_rebuilt t ON t.user_id = %s AND t.partition = w.partition AND t.position >= w.low
    ),
    nowhere AS (
        SELECT room_id, partition FROM gone
        UNION SELECT told.room_id, told.partition FROM told
        WHERE NOT EXISTS (
            SELECT 1 FROM local_current_membership m WHERE m.room_id = told.room_id AND m.user_id = %s)
    ),
    m AS (
        SELECT room_id, membership, forgotten, partition, event_id
        FROM local_current_membership WHERE user_id = %s
        UNION ALL SELECT room_id, 'leave', FALSE, partition, '' FROM nowhere
    )
    SELECT m.room_id, m.membership, m.forgotten, m.partition, m.event_id, r.resumed_position, moved.room_id IS NOT NULL,
        told.room_id IS NOT NULL, own.positions, own.memberships, own.settings, p.room_state, p.position
    FROM m LEFT JOIN rooms r ON r.room_id = m.room_id
    LEFT JOIN room_previews p ON p.room_id = m.room_id AND p.user_id = %s AND p.event_id = m.event_id
    LEFT JOIN moved ON moved.room_id = m.room_id
    LEFT JOIN told ON told.room_id = m.room_id
    LEFT JOIN LATERAL (
        SELECT
            ARRAY(SELECT d.position FROM current_state_deltas d
                WHERE d.room_id = m.room_id AND d.type = 'm.room.member' AND d.state_key = %s
                ORDER BY d.position, d.ordinal) AS positions,
            ARRAY(SELECT d.membership FROM current_state_deltas d
                WHERE d.room_id = m.room_id AND d.type = 'm.room.member' AND d.state_key = %s
                ORDER BY d.position, d.ordinal) AS memberships,
            ARRAY(SELECT e.client_json FROM current_state_deltas d JOIN events e USING (room_id, event_id)
                WHERE d.room_id = m.room_id AND d.type = 'm.room.history_visibility' AND d.state_key = '') AS settings
    ) AS own ON p.room_id IS NULL AND (moved.room_id IS NOT NULL OR %s)
    WHERE r.room_id IS NOT NULL OR p.room_id IS NOT NULL OR told.room_id IS NOT NULL
    ORDER BY m.room_id
"""
# The rooms of the new records, where these are few; else each room that the user ever was in and that has one.
_MOVED_FEW = """
    moved AS (
        SELECT DISTINCT e.room_id, w.low FROM w JOIN events e ON e.partition = w.partition AND e.position >= w.low
        UNION {rebuilt})
"""
_MOVED_MANY = """
    mine AS (
        SELECT room_id, partition FROM local_current_membership WHERE user_id = %s
        UNION SELECT room_id, partition FROM room_memberships WHERE user_id = %s),
    moved AS (
        SELECT mine.room_id, w.low FROM mine JOIN w ON w.partition = mine.partition
        WHERE EXISTS (SELECT 1 FROM events e WHERE e.room_id = mine.room_id AND e.position >= w.low)
        UNION {rebuilt}
    )
"""
# A room that was rebuilt, or resumed, moved though nothing was said in it.
_REBUILT = "SELECT r.room_id, w.low FROM w JOIN rooms r ON r.partition = w.partition AND r.resumed_position >= w.low"


@dataclass(frozen=True, slots=True)
class Window:
    """Stream positions from `start` up to, not including, `end`."""

    start: int
    end: int = END


@dataclass(frozen=True, slots=True)
class SyncRoom:
    """A room of the user. `since`: the lowest stream position that is new to the token; `now`: the lowest that the
    answer does not show."""

    room_id: str
    membership: str
    since: int
    now: int = END
    #: id of the user's own member event
    own_event_id: str = ""
    #: anything was decided in the room since the token
    moved: bool = True
    #: the timeline begins anew: the client has no room, or one that was rebuilt
    fresh: bool = False
    #: the whole state is told
    whole: bool = False
    #: the user's own membership changed since the token, or a switch of generations made it another one
    changed: bool = False
    transitions: tuple[Transition, ...] = field(default=(), repr=False)
    #: what there is to show the room by, where we do not have its state: JSON of a list of stripped events
    preview: str | None = field(default=None, repr=False)
    #: what is known for judging visibility
    known: Known | None = field(default=None, repr=False)

    @property
    def stay_end(self) -> int:
        """Where what the user may hear of ends: everything below; END for who is in the room, 0 for who never was."""
        if self.membership == "join":
            return END
        left = left_at(self.transitions)
        return 0 if left is None else left + 1

    def windows(self) -> tuple[Window, ...]:
        """What is shown of the timeline, oldest first; history visibility decides within it, event by event."""
        start, stay_end = 0 if self.fresh else self.since, self.stay_end
        points = [t.position for t in self.transitions if t.position >= max(stay_end, start)]
        stay = [Window(start, stay_end)] if start < stay_end else []
        return (*stay, *(Window(position, position + 1) for position in points))


def rooms_of(snapshot: Snapshot, request: SyncRequest, token: SyncToken) -> list[SyncRoom]:
    """All rooms of the user that the filter takes, whether or not anything happened in them. `token`: the answer's."""
    user_id, since = request.viewer.user_id, request.since
    partitions, lows = _moved_partitions(since, token)
    few = since is None or sum(token.rooms) - sum(since.rooms) <= _RECORDS_FEW
    sql = _ROOMS_SQL.format(moved=(_MOVED_FEW if few else _MOVED_MANY).format(rebuilt=_REBUILT))
    everything = since is None or request.full_state
    users = [user_id] * (8 if few else 10)
    rows = snapshot.rows(sql, (partitions, lows, *users, everything))
    rooms = [_room(row, request, token) for row in rows if request.filter.takes_room(restore(row[0]))]
    return [room for room in rooms if room is not None]


def _moved_partitions(since: SyncToken | None, token: SyncToken) -> tuple[list[int], list[int]]:
    if since is None:
        return [], []
    moved = [(n, low) for n, (low, now) in enumerate(zip(since.rooms, token.rooms, strict=True)) if low != now]
    return [number for number, _ in moved], [step_start(low) for _, low in moved]


def _room(row: Sequence[Any], request: SyncRequest, token: SyncToken) -> SyncRoom | None:
    room_id, membership, forgotten, partition, event_id, resumed, moved, told, *own_rows, shown, _ = row
    positions, memberships, settings = own_rows
    since = request.since
    low = step_start(since.rooms[partition]) if since else 0
    if shown is not None:
        return _elsewhere(row, request, step_start(token.rooms[partition]), low)
    own = tuple(Transition(*pair) for pair in zip(positions or (), memberships or (), strict=True))
    changed = told or any(transition.position >= low for transition in own)
    # Who left and forgot a room since the token is still told that they left.
    if forgotten and (since is None or not changed):
        return None
    rebuilt = resumed is not None and resumed >= low
    came = any(t.membership == "join" and t.position >= low for t in own) and membership_before(own, low) != "join"
    fresh = since is None or rebuilt or came
    return SyncRoom(
        room_id=restore(room_id),
        membership=membership,
        since=low,
        now=step_start(token.rooms[partition]),
        own_event_id=restore(event_id),
        moved=since is None or moved,
        fresh=fresh,
        whole=fresh or request.full_state,
        changed=changed,
        transitions=own,
        known=known_of(membership, own, settings or ()),
    )


def _elsewhere(row: Sequence[Any], request: SyncRequest, now: int, low: int) -> SyncRoom | None:
    """A room whose state we do not have: all that is new of it is what the user's membership there is."""
    room_id, membership, forgotten, _, event_id, _, _, told, *_, preview, position = row
    initial, changed = request.since is None, told or position >= low
    if forgotten and (initial or not changed):
        return None
    return SyncRoom(
        room_id=restore(room_id),
        membership=membership,
        since=low,
        now=now,
        own_event_id=restore(event_id),
        moved=initial or changed,
        fresh=initial,
        whole=initial or request.full_state,
        changed=changed,
        preview=preview,
    )


def membership_before(transitions: Sequence[Transition], position: int) -> str | None:
    """What the membership was just before a stream position."""
    before = [transition.membership for transition in transitions if transition.position < position]
    return before[-1] if before else None

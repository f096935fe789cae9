"""What a transaction needs to know of the tables, in one read: rooms, users in them, and which events are known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.ingest.inbound.answers import found_answer
from annals.projectors.rooms.standing import RoomStanding, standings

_Pair = tuple[str, str]

# An outlier that is pushed takes its place in the room, and what was dropped is judged again: neither is known here.
_KNOWN_SQL = """
    SELECT e.room_id, e.event_id FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
    JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id
    WHERE NOT e.outlier AND e.verdict <> 'dropped'
"""
_JOINED_SQL = """
    SELECT w.room_id, w.user_id FROM unnest(%s::text[], %s::text[]) AS w(room_id, user_id)
    JOIN current_state cs ON cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key = w.user_id
    WHERE cs.membership = 'join'
"""
_OURS_SQL = """
    SELECT room_id, bool_or(membership IN ('invite', 'knock')) FROM local_current_membership
    WHERE room_id = ANY (%s) GROUP BY room_id
"""


class Elsewhere(StrEnum):
    """What a room is to us that none of our users is in."""

    LEFT = "left"
    """All of our users that ever were in it have left, or were told to."""
    ASKED = "asked"
    """A user of ours is invited, or knocks."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for. `events` are (room_id, event_id), `members` (room_id, user_id)."""

    rooms: Collection[str] = ()
    events: Collection[_Pair] = ()
    members: Collection[_Pair] = ()
    transaction: _Pair | None = None
    """(origin, transaction id)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there. `rooms` are those that a user of ours is in; all others that were asked for are `elsewhere`."""

    rooms: Mapping[str, RoomStanding]
    elsewhere: Mapping[str, Elsewhere]
    known: frozenset[_Pair]
    joined: frozenset[_Pair]
    answer: str | None


def look(snapshot: Snapshot, wanted: Wanted) -> Found:
    """The read: a query for each kind of thing that is wanted, never one for each thing."""
    answer = found_answer(snapshot, *wanted.transaction) if wanted.transaction else None
    found = standings(snapshot, sorted(wanted.rooms)) if wanted.rooms else {}
    rooms = {room_id: standing for room_id, standing in found.items() if standing.joined}
    others = sorted(set(wanted.rooms) - rooms.keys())
    return Found(
        rooms,
        _elsewhere(snapshot, others) if others else {},
        _pairs(snapshot, _KNOWN_SQL, wanted.events),
        _pairs(snapshot, _JOINED_SQL, wanted.members),
        answer,
    )


def _elsewhere(snapshot: Snapshot, room_ids: list[str]) -> dict[str, Elsewhere]:
    of_ours = {restore(room_id): asked for room_id, asked in snapshot.rows(_OURS_SQL, (room_ids,))}
    named = {True: Elsewhere.ASKED, False: Elsewhere.LEFT, None: Elsewhere.UNKNOWN}
    return {room_id: named[of_ours.get(room_id)] for room_id in room_ids}


def _pairs(snapshot: Snapshot, sql: str, wanted: Collection[_Pair]) -> frozenset[_Pair]:
    if not wanted:
        return frozenset()
    firsts, seconds = zip(*wanted, strict=True)
    return frozenset((restore(a), restore(b)) for a, b in snapshot.rows(sql, (list(firsts), list(seconds))))

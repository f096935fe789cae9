"""What a transaction needs to know of the tables, in one read: rooms, users in them, and which events are known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.ingest.inbound.answers import found_answer
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
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
    SELECT room_id, CASE WHEN bool_or(membership IN ('invite', 'knock')) THEN 'asked' ELSE 'left' END
    FROM local_current_membership WHERE room_id = ANY (%s) GROUP BY room_id
"""
_JOINING_SQL = """
    SELECT DISTINCT room_id, 'joining' FROM handshakes
    WHERE room_id = ANY (%s) AND outcome IS NULL AND kind = 'join'
"""
_HELD_SQL = """
    SELECT m.room_id, m.user_id, m.event_id, e.room_version FROM local_current_membership m
    JOIN events e ON e.room_id = m.room_id AND e.event_id = m.event_id
    WHERE m.room_id = ANY (%s) AND m.membership IN ('invite', 'knock')
"""
_VERSIONS_SQL = """
    SELECT w.room_id, e.room_version FROM unnest(%s::text[]) AS w(room_id)
    CROSS JOIN LATERAL (SELECT room_version FROM events WHERE events.room_id = w.room_id LIMIT 1) e
"""


_DEVICES_SQL = "SELECT user_id, device_id FROM devices WHERE user_id = ANY (%s) ORDER BY user_id, device_id"
_SHARING_SQL = """
    SELECT w.user_id FROM unnest(%s::text[]) AS w(user_id) WHERE EXISTS (
        SELECT 1 FROM room_memberships m
        JOIN current_state cs ON cs.room_id = m.room_id AND cs.type = 'm.room.member' AND cs.state_key = m.user_id
        JOIN local_current_membership ours ON ours.room_id = m.room_id AND ours.membership = 'join'
        WHERE m.user_id = w.user_id AND m.membership = 'join' AND cs.membership = 'join')
"""


class Elsewhere(StrEnum):
    """What a room is to us that none of our users is in."""

    LEFT = "left"
    """All of our users that ever were in it have left, or were told to."""
    ASKED = "asked"
    """A user of ours is invited, or knocks."""
    JOINING = "joining"
    """A user of ours is on the way in, and we do not know enough of the room yet to verify anything."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Asked:
    """A room of which we hold invites or knocks: `held`, by user, the event that is one."""

    rules: RoomRules
    held: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for. `events` are (room_id, event_id), `members` (room_id, user_id)."""

    rooms: Collection[str] = ()
    events: Collection[_Pair] = ()
    members: Collection[_Pair] = ()
    receivers: Collection[str] = ()
    """Users of ours whose devices are wanted."""
    owners: Collection[str] = ()
    """Users of others of whom to know whether they share a room with us."""
    transaction: _Pair | None = None
    """(origin, transaction id)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is there. `rooms` are those that a user of ours is in; all others that were asked for are `elsewhere`."""

    rooms: Mapping[str, RoomStanding]
    elsewhere: Mapping[str, Elsewhere]
    joining: Mapping[str, RoomRules]
    """Rooms that a user of ours is on the way into, of which we know the version: what comes for them waits there."""
    asked: Mapping[str, Asked]
    known: frozenset[_Pair]
    joined: frozenset[_Pair]
    devices: Mapping[str, Sequence[str]]
    sharing: frozenset[str]
    answer: str | None

    def rules_of(self, room_id: str | None) -> RoomRules | None:
        """The rules of a room whose PDUs may go on the log."""
        standing = self.rooms.get(room_id or "")
        return standing.rules if standing is not None else self.joining.get(room_id or "")

    def admits(self, room_id: str, server_name: str) -> bool:
        """Whether the server may take part in the room; not in one that no user of ours is in."""
        standing = self.rooms.get(room_id)
        return standing is not None and standing.admits(server_name)


def look(snapshot: Snapshot, wanted: Wanted) -> Found:
    """The read: a query for each kind of thing that is wanted, never one for each thing."""
    answer = found_answer(snapshot, *wanted.transaction) if wanted.transaction else None
    found = standings(snapshot, sorted(wanted.rooms)) if wanted.rooms else {}
    rooms = {room_id: standing for room_id, standing in found.items() if standing.joined}
    others = sorted(set(wanted.rooms) - rooms.keys())
    elsewhere = _elsewhere(snapshot, others) if others else {}
    on_the_way = [room_id for room_id, where in elsewhere.items() if where is Elsewhere.JOINING]
    asked = [room_id for room_id, where in elsewhere.items() if where is Elsewhere.ASKED]
    return Found(
        rooms,
        elsewhere,
        _versions(snapshot, on_the_way) if on_the_way else {},
        _held(snapshot, asked) if asked else {},
        _pairs(snapshot, _KNOWN_SQL, wanted.events),
        _pairs(snapshot, _JOINED_SQL, wanted.members),
        _devices(snapshot, wanted.receivers) if wanted.receivers else {},
        _sharing(snapshot, wanted.owners) if wanted.owners else frozenset(),
        answer,
    )


def _elsewhere(snapshot: Snapshot, room_ids: list[str]) -> dict[str, Elsewhere]:
    found = dict.fromkeys(room_ids, Elsewhere.UNKNOWN)
    # Who joins again may have left before, or be invited.
    for sql in (_OURS_SQL, _JOINING_SQL):
        found |= {restore(room_id): Elsewhere(where) for room_id, where in snapshot.rows(sql, (room_ids,))}
    return found


def _held(snapshot: Snapshot, room_ids: list[str]) -> dict[str, Asked]:
    found: dict[str, Asked] = {}
    for room_id, user_id, event_id, version in snapshot.rows(_HELD_SQL, (room_ids,)):
        if version in ROOM_VERSIONS:
            before = found.get(restore(room_id), Asked(ROOM_VERSIONS[version], {}))
            held = {**before.held, restore(user_id): restore(event_id)}
            found[restore(room_id)] = Asked(before.rules, held)
    return found


def _versions(snapshot: Snapshot, room_ids: list[str]) -> dict[str, RoomRules]:
    rows = snapshot.rows(_VERSIONS_SQL, (room_ids,))
    return {restore(room_id): ROOM_VERSIONS[version] for room_id, version in rows if version in ROOM_VERSIONS}


def _devices(snapshot: Snapshot, user_ids: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for user_id, device_id in snapshot.rows(_DEVICES_SQL, (sorted(user_ids),)):
        found.setdefault(restore(user_id), []).append(restore(device_id))
    return found


def _sharing(snapshot: Snapshot, user_ids: Collection[str]) -> frozenset[str]:
    return frozenset(restore(user_id) for (user_id,) in snapshot.rows(_SHARING_SQL, (sorted(user_ids),)))


def _pairs(snapshot: Snapshot, sql: str, wanted: Collection[_Pair]) -> frozenset[_Pair]:
    if not wanted:
        return frozenset()
    firsts, seconds = zip(*wanted, strict=True)
    return frozenset((restore(a), restore(b)) for a, b in snapshot.rows(sql, (list(firsts), list(seconds))))

"""What a room lacks, as the tables have it: one snapshot, set-wise, and no event loaded whole."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore, storable
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules

#: What one look takes up; the rest comes with the next.
WANTED_MAX = 200
WAITING_MAX = 1_000
EXTREMITIES_MAX = 100
SERVERS_MAX = 20

#: Verdicts of events that are there for others to cite (annals.rooms.view.IN_DAG).
_IN_DAG = "('accepted', 'soft_failed', 'rejected', 'pending_policy')"

_ROOMS_SQL = "SELECT DISTINCT room_id FROM wanted"
_WANTED_SQL = "SELECT event_id, kind FROM wanted WHERE room_id = %s ORDER BY position, event_id LIMIT %s"
_WAITING_SQL = """
    SELECT event_id, partition, source, room_version, prev_events, auth_events, missing, backfilled FROM events
    WHERE room_id = %s AND verdict = 'parked' AND missing && %s::text[] ORDER BY source LIMIT %s
"""
_FIRST_WAITING_SQL = """
    SELECT partition, source FROM events WHERE room_id = %s AND verdict = 'parked' ORDER BY source LIMIT 1
"""
_ROOM_SQL = """
    SELECT r.room_version, r.create_event_id, r.min_depth,
        EXISTS (SELECT 1 FROM local_current_membership m WHERE m.room_id = r.room_id AND m.membership = 'join'),
        ARRAY(SELECT f.event_id FROM forward_extremities f WHERE f.room_id = r.room_id
            ORDER BY f.position DESC LIMIT %s)
    FROM rooms r WHERE r.room_id = %s
"""
_PRESENT_SQL = f"""
    SELECT event_id FROM events
    WHERE room_id = %s AND event_id = ANY (%s::text[]) AND verdict IN {_IN_DAG}
"""
_PLACED_SQL = f"""
    SELECT event_id FROM events WHERE room_id = %s AND event_id = ANY (%s::text[]) AND NOT outlier
        AND (verdict IN {_IN_DAG} OR verdict = 'parked')
"""
_PARKED_SQL = """
    SELECT event_id FROM events WHERE room_id = %s AND event_id = ANY (%s::text[]) AND verdict = 'parked'
"""
_ENTERING_SQL = "SELECT 1 FROM handshakes WHERE room_id = %s AND outcome IS NULL LIMIT 1"
# Whose members were there first, and then who has more of them: the servers most likely to have the room's past.
_SERVERS_SQL = """
    SELECT substr(state_key, strpos(state_key, ':') + 1) AS server FROM current_state
    WHERE room_id = %s AND type = 'm.room.member' AND membership = 'join' AND strpos(state_key, ':') > 0
    GROUP BY 1 ORDER BY min(position), count(*) DESC, 1 LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parked event. `at` is where its fact stands: (partition, offset) of topic `rooms`."""

    event_id: str
    at: tuple[int, int]
    prev_events: tuple[str, ...]
    auth_events: tuple[str, ...]
    missing: frozenset[str]
    backfilled: bool


@dataclass(frozen=True, slots=True)
class RoomGaps:
    """What a room lacks. `prev` and `auth`: ids that are wanted; `is_in`: a user of ours is joined."""

    room_id: str
    rules: RoomRules | None
    create_event_id: str
    is_in: bool
    min_depth: int
    extremities: tuple[str, ...]
    prev: tuple[str, ...]
    auth: tuple[str, ...]
    waiting: tuple[Waiting, ...]

    def behind(self, event_id: str) -> list[Waiting]:
        """The parked events that wait for this one, in the order in which they came."""
        return [parked for parked in self.waiting if event_id in parked.missing]


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """What a question about a room needs to know of it. `servers`: those in it, ours among them."""

    room_id: str
    rules: RoomRules
    create_event_id: str
    servers: tuple[str, ...]


def room_facts(snapshot: Snapshot, room_id: str) -> RoomFacts | None:
    """The facts of a room that a user of ours is in; None for others."""
    row = snapshot.one(_ROOM_SQL, (EXTREMITIES_MAX, storable(room_id)))
    if row is None or not row[3] or row[0] not in ROOM_VERSIONS:
        return None
    return RoomFacts(room_id, ROOM_VERSIONS[row[0]], restore(row[1]), tuple(servers_in(snapshot, room_id)))


def rooms_that_lack(snapshot: Snapshot) -> list[str]:
    """Every room that wants something."""
    return [restore(room_id) for (room_id,) in snapshot.rows(_ROOMS_SQL)]


def first_waiting(snapshot: Snapshot, room_id: str) -> tuple[int, int] | None:
    """Where the fact of the first parked event stands: (partition, offset) of topic `rooms`."""
    row = snapshot.one(_FIRST_WAITING_SQL, (storable(room_id),))
    return None if row is None else (row[0], row[1])


def gaps_of(snapshot: Snapshot, room_id: str) -> RoomGaps | None:
    """What the room lacks; None where that is nothing."""
    stored = storable(room_id)
    wanted = snapshot.rows(_WANTED_SQL, (stored, WANTED_MAX))
    if not wanted:
        return None
    waiting = snapshot.rows(_WAITING_SQL, (stored, [event_id for event_id, _ in wanted], WAITING_MAX))
    row = snapshot.one(_ROOM_SQL, (EXTREMITIES_MAX, stored))
    version, create_event_id, min_depth, is_in, extremities = row or (None, "", None, False, [])
    return RoomGaps(
        room_id=room_id,
        rules=ROOM_VERSIONS.get(version or (waiting[0][3] if waiting else "")),
        create_event_id=restore(create_event_id),
        is_in=is_in,
        min_depth=min_depth or 0,
        extremities=_restored(extremities),
        prev=tuple(restore(event_id) for event_id, kind in wanted if kind == "prev"),
        auth=tuple(restore(event_id) for event_id, kind in wanted if kind != "prev"),
        waiting=tuple(map(_waiting, waiting)),
    )


def waiting_for(snapshot: Snapshot, room_id: str, event_ids: Iterable[str]) -> tuple[Waiting, ...]:
    """The parked events that wait for one of these, in the order in which they came."""
    named = [storable(event_id) for event_id in event_ids]
    return tuple(map(_waiting, snapshot.rows(_WAITING_SQL, (storable(room_id), named, WAITING_MAX))))


def is_being_entered(snapshot: Snapshot, room_id: str) -> bool:
    """Whether a handshake is under way by which a user of ours may come into the room."""
    return snapshot.one(_ENTERING_SQL, (storable(room_id),)) is not None


def present(snapshot: Snapshot, room_id: str, event_ids: Collection[str]) -> set[str]:
    """Those of these events that others may cite: asked by existence."""
    return _ids(snapshot, _PRESENT_SQL, room_id, event_ids)


def placed(snapshot: Snapshot, room_id: str, event_ids: Collection[str]) -> set[str]:
    """Those that need not be fetched for the timeline: in its graph, or parked."""
    return _ids(snapshot, _PLACED_SQL, room_id, event_ids)


def parked(snapshot: Snapshot, room_id: str, event_ids: Collection[str]) -> set[str]:
    """Those that still wait."""
    return _ids(snapshot, _PARKED_SQL, room_id, event_ids)


def servers_in(snapshot: Snapshot, room_id: str) -> list[str]:
    """Servers with joined members, the most promising ones first; ours may be among them."""
    return [restore(server) for (server,) in snapshot.rows(_SERVERS_SQL, (storable(room_id), SERVERS_MAX))]


def _waiting(row: Sequence[Any]) -> Waiting:
    event_id, partition, source, _, prev, auth, missing, backfilled = row
    lacks = frozenset(_restored(missing or ()))
    return Waiting(restore(event_id), (partition, source), _restored(prev), _restored(auth), lacks, backfilled)


def _ids(snapshot: Snapshot, sql: str, room_id: str, event_ids: Collection[str]) -> set[str]:
    if not event_ids:
        return set()
    rows = snapshot.rows(sql, (storable(room_id), [storable(event_id) for event_id in event_ids]))
    return {restore(event_id) for (event_id,) in rows}


def _restored(column: Iterable[str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(restore(text) for text in column)

"""Which rooms a /sync shows, in which section, and which part of each timeline belongs to the user.

A user's membership over stream positions makes *windows*: what became visible while the user was in the room. Somebody
who left and was banned later is shown the leave and the ban, and nothing of what was said in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.sync.request import SyncRequest
from annals.schemas.position import step_start

#: A stream position above all others.
END = 1 << 62

_MEMBERSHIPS_SQL = """
    SELECT m.room_id, m.membership, m.partition, r.resumed_position
    FROM local_current_membership m JOIN rooms r ON r.room_id = m.room_id
    WHERE m.user_id = %s AND NOT m.forgotten
    ORDER BY m.room_id
"""
_TRANSITIONS_SQL = """
    SELECT d.room_id, d.position, d.membership FROM current_state_deltas d
    WHERE d.room_id = ANY (%s) AND d.type = 'm.room.member' AND d.state_key = %s
    ORDER BY d.room_id, d.position, d.ordinal
"""


@dataclass(frozen=True, slots=True)
class Transition:
    """At `position` the user's membership became `membership` (None: the member event fell away)."""

    position: int
    membership: str | None


@dataclass(frozen=True, slots=True)
class Window:
    """Stream positions from `start` up to, not including, `end`."""

    start: int
    end: int = END


@dataclass(frozen=True, slots=True)
class SyncRoom:
    """A room of the user. `since` is the lowest stream position that is new to the token."""

    room_id: str
    membership: str
    since: int
    #: everything has to be told: the room is new to the client, or was rebuilt, or the client asks for all
    whole: bool
    #: the user's own membership changed since the token
    changed: bool
    transitions: tuple[Transition, ...] = field(default=(), repr=False)

    def windows(self) -> tuple[Window, ...]:
        """When the user was in the room, from the token on; the user's own comings and goings included.

        Of a room that is told as a whole to somebody in it, everything: history visibility decides event by event.
        """
        if self.whole and self.membership == "join":
            return (Window(0),)
        if not self.changed:
            return (Window(self.since),)
        windows: list[Window] = []
        entered: int | None = None
        for transition in self.transitions:
            if entered is None:
                windows.append(Window(transition.position, transition.position + 1))
                if transition.membership == "join":
                    entered = transition.position
            elif transition.membership != "join":
                windows.append(Window(entered, transition.position + 1))
                entered = None
        if entered is not None:
            windows.append(Window(entered))
        clipped = (Window(max(window.start, self.since), window.end) for window in windows)
        return tuple(window for window in clipped if window.start < window.end)


def rooms_of(snapshot: Snapshot, request: SyncRequest) -> list[SyncRoom]:
    """All rooms of the user that the filter takes, whether or not anything happened in them."""
    user_id, since = request.viewer.user_id, request.since
    rows = [
        (restore(room_id), membership, partition, resumed)
        for room_id, membership, partition, resumed in snapshot.rows(_MEMBERSHIPS_SQL, (user_id,))
        if request.filter.takes_room(restore(room_id))
    ]
    transitions = _transitions(snapshot, [row[0] for row in rows], user_id)
    rooms = []
    for room_id, membership, partition, resumed in rows:
        bound = step_start(since.rooms[partition]) if since else 0
        own = transitions.get(room_id, ())
        changed = any(transition.position >= bound for transition in own)
        rebuilt = resumed is not None and resumed >= bound
        came = changed and membership_before(own, bound) != "join" and membership == "join"
        whole = since is None or request.full_state or rebuilt or came
        rooms.append(SyncRoom(room_id, membership, bound, whole, changed, own))
    return rooms


def membership_before(transitions: Sequence[Transition], position: int) -> str | None:
    """What the membership was just before a stream position."""
    before = [transition.membership for transition in transitions if transition.position < position]
    return before[-1] if before else None


def _transitions(snapshot: Snapshot, room_ids: Iterable[str], user_id: str) -> dict[str, tuple[Transition, ...]]:
    found: dict[str, tuple[Transition, ...]] = {}
    for room_id, position, membership in snapshot.rows(_TRANSITIONS_SQL, (list(room_ids), user_id)):
        room_id = restore(room_id)
        found[room_id] = (*found.get(room_id, ()), Transition(position, membership))
    return found

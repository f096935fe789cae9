"""May another server read this room, and which of its events (security rows 31, 32 and 34).

A server may read a room that a user of its is in now; and of a room that its users have left, the events at which one
of them was in it. Who may not learns nothing but that: whatever is asked of whatever room, the refusal is the same.
History visibility then decides about single events, by the state before each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.visibility import HistoryVisibility, may_see
from annals.projectors.rooms.read import shown_event
from annals.projectors.rooms.standing import standings
from annals.queries.errors import NoAccess
from annals.queries.federation.pdus import SERVED_SQL
from annals.queries.federation.stored import StoredEvent
from annals.queries.stays import END, left_at

_MEMBER, _VISIBILITY = "m.room.member", "m.room.history_visibility"
_OPEN = frozenset((HistoryVisibility.SHARED, HistoryVisibility.WORLD_READABLE))


def _of_server(column: str) -> str:
    return f"substr({column}, strpos({column}, ':') + 1) = %s"


_JOINED_SQL = f"""
    SELECT EXISTS (
        SELECT 1 FROM current_state cs WHERE cs.room_id = %s AND cs.type = 'm.room.member' AND cs.membership = 'join'
            AND {_of_server("cs.state_key")})
"""
_TRANSITIONS_SQL = f"""
    SELECT d.state_key, d.position, d.membership FROM current_state_deltas d
    WHERE d.room_id = %s AND d.type = 'm.room.member' AND {_of_server("d.state_key")}
    ORDER BY d.state_key, d.position, d.ordinal
"""
_STATES_BEFORE_SQL = f"""
    SELECT e.event_id, e.state_before FROM events e
    WHERE e.room_id = %s AND e.event_id = ANY (%s) AND NOT e.outlier AND e.verdict IN ({SERVED_SQL})
"""
# Every state on the lines of bases of some states, each once, with its base and what it says of the visibility.
_LINES_SQL = """
    WITH RECURSIVE line(state_id, base_id) AS (
        SELECT s.state_id, s.base_id FROM states s WHERE s.room_id = %s AND s.state_id = ANY (%s)
        UNION
        SELECT s.state_id, s.base_id FROM line l JOIN states s ON s.room_id = %s AND s.state_id = l.base_id
    )
    SELECT l.state_id, l.base_id, d.state_id IS NOT NULL, e.client_json FROM line l
    LEFT JOIN state_deltas d ON d.room_id = %s AND d.state_id = l.state_id
        AND d.type = 'm.room.history_visibility' AND d.state_key = ''
    LEFT JOIN events e ON e.room_id = %s AND e.event_id = d.event_id
"""
_MEMBERS_SQL = f"""
    SELECT d.state_id, d.state_key, e.membership FROM state_deltas d
    LEFT JOIN events e ON e.room_id = %s AND e.event_id = d.event_id
    WHERE d.room_id = %s AND d.state_id = ANY (%s) AND d.type = 'm.room.member' AND {_of_server("d.state_key")}
"""


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """A server that may read a room. `in_until`: the stream position up to which users of its were in it (END: they
    are)."""

    room_id: str
    server: str
    in_until: int = END

    @property
    def joined(self) -> bool:
        """Whether the server is in the room now."""
        return self.in_until == END


def access_of(snapshot: Snapshot, room_id: str, server: str, event_ids: Collection[str] = ()) -> ServerAccess:
    """The server's access to the room, or to it at all of these events. Raises NoAccess."""
    standing = standings(snapshot, [room_id]).get(room_id)
    if standing is None or not standing.admits(server):
        raise NoAccess(room_id)
    if snapshot.rows(_JOINED_SQL, (room_id, server))[0][0]:
        return ServerAccess(room_id, server)
    if not event_ids or not _was_in(snapshot, room_id, server, event_ids):
        raise NoAccess(room_id)
    rows = snapshot.rows(_TRANSITIONS_SQL, (room_id, server))
    stays = [left_at((at, then) for _, at, then in of_user) for _, of_user in groupby(rows, key=itemgetter(0))]
    return ServerAccess(room_id, server, max((left for left in stays if left is not None), default=-1))


def _was_in(snapshot: Snapshot, room_id: str, server: str, event_ids: Collection[str]) -> bool:
    before = dict(snapshot.rows(_STATES_BEFORE_SQL, (room_id, list(event_ids))))
    if len(before) < len(set(event_ids)) or None in before.values():
        return False
    states = _States.read(snapshot, room_id, before.values())
    states.read_members(snapshot, server, before.values())
    return all(states.membership(state_id) == "join" for state_id in before.values())


def visible_to_server(snapshot: Snapshot, access: ServerAccess, events: Iterable[StoredEvent]) -> frozenset[str]:
    """The ids of those of these events of the room that the server may see. Two queries at most."""
    # The state before an outlier is not known; what may be served of these at all is state that others cite.
    seen = {event.event_id for event in events if event.state_before is None}
    doubtful = [event for event in events if event.event_id not in seen]
    if not doubtful:
        return frozenset(seen)
    before = {event.state_before for event in doubtful if event.state_before is not None}
    states = _States.read(snapshot, access.room_id, before)
    closed = {s for s in before if states.visibility(s) not in _OPEN or not access.joined}
    if closed:
        states.read_members(snapshot, access.server, closed)
    seen.update(event.event_id for event in doubtful if _is_visible(event, access, states))
    return frozenset(seen)


def _is_visible(event: StoredEvent, access: ServerAccess, states: _States) -> bool:
    own = event.type == _MEMBER and (event.state_key or "").partition(":")[2] == access.server
    return may_see(
        shown_event(event.client_json, event.room_version, event.event_id, event.depth),
        # Of whom an event tells does not matter, as long as it is one of the server's users.
        (event.state_key or "") if own else "",
        visibility=states.visibility(event.state_before),
        membership=states.membership(event.state_before),
        joined_later=event.position < access.in_until,
    )


@dataclass(slots=True)
class _States:
    """What some stored states say of a room's visibility, and of the members of one server."""

    room_id: str
    bases: dict[int, int | None] = field(default_factory=dict)
    settings: dict[int, HistoryVisibility] = field(default_factory=dict)
    members: dict[int, dict[str, str | None]] = field(default_factory=dict)

    @classmethod
    def read(cls, snapshot: Snapshot, room_id: str, state_ids: Iterable[int]) -> _States:
        made = cls(room_id)
        wanted = sorted(set(state_ids))
        for state_id, base_id, is_set, text in snapshot.rows(_LINES_SQL, (room_id, wanted, *[room_id] * 3)):
            made.bases[state_id] = base_id
            if is_set:
                made.settings[state_id] = _setting(text)
        return made

    def read_members(self, snapshot: Snapshot, server: str, state_ids: Iterable[int]) -> None:
        """Load who of the server was what in these states."""
        line = sorted({link for state_id in state_ids for link in self._line(state_id)})
        for state_id, user_id, membership in snapshot.rows(_MEMBERS_SQL, (self.room_id, self.room_id, line, server)):
            self.members.setdefault(state_id, {})[user_id] = membership

    def visibility(self, state_id: int | None) -> HistoryVisibility:
        """The room's setting in a state: of the entries along its line of bases the nearest counts."""
        found = (self.settings[link] for link in self._line(state_id) if link in self.settings)
        return next(found, HistoryVisibility.SHARED)

    def membership(self, state_id: int | None) -> str | None:
        """What the server's users are in a state: join if any is, else invite if any is."""
        held: dict[str, str | None] = {}
        for link in self._line(state_id):
            for user_id, membership in self.members.get(link, {}).items():
                held.setdefault(user_id, membership)
        found = set(held.values())
        return next((membership for membership in ("join", "invite", "knock") if membership in found), None)

    def _line(self, state_id: int | None) -> Iterable[int]:
        while state_id is not None and state_id in self.bases:
            yield state_id
            state_id = self.bases[state_id]


def _setting(text: str | None) -> HistoryVisibility:
    content: Mapping[str, object] | object = None if text is None else loads(restore(text)).get("content")
    value = content.get("history_visibility") if isinstance(content, dict) else None
    known = isinstance(value, str) and value in frozenset(HistoryVisibility)
    return HistoryVisibility(value) if known and isinstance(value, str) else HistoryVisibility.SHARED

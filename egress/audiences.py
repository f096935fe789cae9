"""Which servers are in a room at an event: the members by server as of its stream position, kept from batch to batch.

The current state as of the position is read, not the state before the event by its own prev_events: where these
differ, a server came or went beside the event, and hears of it by the later of the two.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.egress.reading import SERVER_OF, Outgoing, server_of
from annals.egress.vectors import ROOMS, tables_end
from annals.eventlog.partition import partition_of
from annals.matrix.identifiers import domain_of
from annals.matrix.server_acl import ServerAcl
from annals.projectors.rooms.standing import acl_of

#: Servers of rooms that are kept, all in all: some 100 bytes each.
KEPT_MAX = 500_000

_NOW_SQL = f"""
    SELECT cs.room_id, {SERVER_OF.format("cs.state_key")} AS server, count(*)
    FROM unnest(%s::text[]) AS w(room_id) JOIN current_state cs ON cs.room_id = w.room_id
    WHERE cs.type = 'm.room.member' AND cs.membership = 'join'
        AND (%s::text IS NULL OR {SERVER_OF.format("cs.state_key")} = %s)
    GROUP BY 1, 2
"""
# That an event is redacted is no change of the current state. So which ACL holds is looked at each time; its text,
# which may be large, only where it is not the one of the last time.
_ACLS_SQL = """
    SELECT cs.room_id, cs.event_id, e.redacted_by IS NOT NULL,
        CASE WHEN cs.event_id = w.event_id AND (e.redacted_by IS NOT NULL) = w.redacted THEN NULL ELSE e.client_json END
    FROM unnest(%s::text[], %s::text[], %s::boolean[]) AS w(room_id, event_id, redacted)
    JOIN current_state cs ON cs.room_id = w.room_id
    JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.type = 'm.room.server_acl' AND cs.state_key = ''
"""
_CHANGES_SQL = """
    SELECT d.room_id, d.position, d.state_key, d.membership, p.membership
    FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, low)
    JOIN current_state_deltas d ON d.room_id = w.room_id AND d.position >= w.low
    LEFT JOIN events p ON p.room_id = d.room_id AND p.event_id = d.previous_event_id
    WHERE d.type = 'm.room.member'
    ORDER BY d.position, d.ordinal
"""


@dataclass(frozen=True, slots=True)
class _Change:
    position: int
    server: str
    joins: int


@dataclass(slots=True)
class _Room:
    """The servers of a room as of a stream position: everything below it is counted."""

    as_of: int
    joined: Counter[str] = field(default_factory=Counter)
    acl: ServerAcl | None = None
    #: the event of the ACL, and whether it was redacted
    acl_from: tuple[str | None, bool] = (None, False)
    _servers: frozenset[str] | None = None
    _admitted: frozenset[str] | None = None

    def servers(self) -> frozenset[str]:
        """The servers with a joined member."""
        if self._servers is None:
            self._servers = frozenset(self.joined)
        return self._servers

    def admitted(self) -> frozenset[str]:
        """Those that the room's ACL does not deny."""
        if self._admitted is None:
            acl = self.acl
            self._admitted = frozenset(name for name in self.joined if acl is None or acl.allows(name))
        return self._admitted

    def obey(self, acl: ServerAcl | None, acl_from: tuple[str | None, bool]) -> None:
        """This ACL holds now."""
        self.acl, self.acl_from = acl, acl_from
        self._admitted = None

    def apply(self, change: _Change) -> None:
        self._count(change.server, change.joins)

    def take_back(self, change: _Change) -> None:
        self._count(change.server, -change.joins)

    def _count(self, server: str, joins: int) -> None:
        if not joins:
            return
        was = server in self.joined
        self.joined[server] += joins
        if self.joined[server] <= 0:
            del self.joined[server]
        if was != (server in self.joined):
            self._servers = self._admitted = None


class Audiences:
    """Destinations of events. One that is asked for rising positions only remembers rooms; `forget` at a switch."""

    def __init__(self, us: str, kept_max: int = KEPT_MAX) -> None:
        self._us, self._kept_max = us, kept_max
        self._rooms: OrderedDict[str, _Room] = OrderedDict()
        self._kept = 0
        self._generation: str | None = None
        #: rooms of the last question in which somebody of elsewhere comes or goes with its last event, or after it
        self._moving: frozenset[str] = frozenset()

    def forget(self) -> None:
        """Another generation may have had other members."""
        self._rooms.clear()
        self._kept = 0

    def of(
        self, snapshot: Snapshot, events: Sequence[Outgoing], only: str | None = None
    ) -> list[tuple[Outgoing, frozenset[str]]]:
        """The servers that each event (in order of position) has to reach, but us and the sender's own. With `only`,
        whether that one is among them: no other is looked for, and nothing is remembered."""
        by_room: defaultdict[str, list[Outgoing]] = defaultdict(list)
        for event in events:
            by_room[event.room_id].append(event)
        rooms = self._known(by_room) if only is None else {}
        lows = {
            room_id: rooms[room_id].as_of if room_id in rooms else of_room[0].position
            for room_id, of_room in by_room.items()
        }
        changes = _changes(snapshot, lows)
        new = [room_id for room_id in by_room if room_id not in rooms]
        rooms |= _loaded(snapshot, new, lows, changes, only)
        found = {
            (event.room_id, event.event_id): servers
            for room_id, of_room in by_room.items()
            for event, servers in self._walk(rooms[room_id], of_room, changes.get(room_id, ()))
        }
        if only is None:
            self._keep(rooms)
            self._moving = frozenset(
                room_id for room_id in rooms if self._moves(rooms[room_id], changes.get(room_id, ()))
            )
        else:
            found = {key: servers & {only} for key, servers in found.items()}
        return [(event, found[event.room_id, event.event_id]) for event in events]

    def now(self, snapshot: Snapshot, room_ids: Iterable[str]) -> dict[str, frozenset[str]]:
        """The servers, but us, that are in rooms as of the snapshot, and that the rooms' ACLs do not deny. Not of one
        that is asked for events too."""
        if snapshot.generation != self._generation:
            self.forget()
            self._generation = snapshot.generation
        wanted = set(room_ids)
        rooms = self._known(wanted)
        ends = tables_end(snapshot.positions, ROOMS)
        for room_id, changes in _changes(snapshot, {room_id: room.as_of for room_id, room in rooms.items()}).items():
            for change in changes:
                rooms[room_id].apply(change)
        rooms |= _loaded(snapshot, [room_id for room_id in wanted if room_id not in rooms], {}, {}, None)
        _look_at_acls(snapshot, rooms)
        for room_id, room in rooms.items():
            room.as_of = ends[partition_of(room_id, len(ends))]
        self._keep(rooms)
        return {room_id: room.admitted() - {self._us} for room_id, room in rooms.items()}

    def alone(self, room_ids: Iterable[str]) -> frozenset[str]:
        """Of the rooms of the last question: those in which no other server is, as far as the snapshot tells."""
        rooms = self._known(room_ids).items()
        return frozenset(name for name, room in rooms if room.servers() <= {self._us} and name not in self._moving)

    def _moves(self, room: _Room, changes: Sequence[_Change]) -> bool:
        return any(c.position >= room.as_of and c.server != self._us for c in changes)

    def _walk(
        self, room: _Room, events: Sequence[Outgoing], changes: Sequence[_Change]
    ) -> Iterable[tuple[Outgoing, frozenset[str]]]:
        upcoming = iter(changes)
        change = next(upcoming, None)
        for event in events:
            while change is not None and change.position < event.position:
                if change.position >= room.as_of:
                    room.apply(change)
                change = next(upcoming, None)
            room.as_of = event.position
            # "Servers should still send events to denied servers if they are still residents of the room."
            servers = room.servers()
            removed = event.removed_server
            if removed is not None and removed not in servers:
                servers |= {removed}
            yield event, servers - {self._us, domain_of(event.sender)}

    def _known(self, wanted: Iterable[str]) -> dict[str, _Room]:
        return {room_id: self._rooms[room_id] for room_id in wanted if room_id in self._rooms}

    def _keep(self, rooms: Mapping[str, _Room]) -> None:
        for room_id, room in rooms.items():
            self._rooms[room_id] = room
            self._rooms.move_to_end(room_id)
        self._kept = sum(1 + len(room.joined) for room in self._rooms.values())
        while self._kept > self._kept_max and self._rooms:
            _, dropped = self._rooms.popitem(last=False)
            self._kept -= 1 + len(dropped.joined)


def _changes(snapshot: Snapshot, lows: Mapping[str, int]) -> dict[str, list[_Change]]:
    found: defaultdict[str, list[_Change]] = defaultdict(list)
    if not lows:
        return found
    for row in snapshot.rows(_CHANGES_SQL, (list(lows), list(lows.values()))):
        room_id, position, state_key, membership, before = row
        joins = (membership == "join") - (before == "join")
        found[restore(room_id)].append(_Change(position, server_of(restore(state_key)) or "", joins))
    return found


def _loaded(
    snapshot: Snapshot,
    room_ids: list[str],
    lows: Mapping[str, int],
    changes: Mapping[str, Sequence[_Change]],
    only: str | None,
) -> dict[str, _Room]:
    """Rooms as of the snapshot, and what changed since `lows` taken back."""
    rooms = {room_id: _Room(lows.get(room_id, 0)) for room_id in room_ids}
    if not rooms:
        return rooms
    for room_id, server, count in snapshot.rows(_NOW_SQL, (room_ids, only, only)):
        rooms[restore(room_id)].joined[restore(server)] = count
    for room_id, room in rooms.items():
        for change in reversed(changes.get(room_id, ())):
            if only is None or change.server == only:
                room.take_back(change)
    return rooms


def _look_at_acls(snapshot: Snapshot, rooms: Mapping[str, _Room]) -> None:
    known = [room.acl_from for room in rooms.values()]
    asked = (list(rooms), [event_id for event_id, _ in known], [redacted for _, redacted in known])
    without = set(rooms)
    for room_id, event_id, redacted, text in snapshot.rows(_ACLS_SQL, asked) if rooms else ():
        without.discard(restore(room_id))
        if text is not None:
            rooms[restore(room_id)].obey(acl_of(text, redacted), (event_id, redacted))
    for room_id in without:
        if rooms[room_id].acl is not None:
            rooms[room_id].obey(None, (None, False))

"""What two generations believe otherwise: rooms, keys of their states, verdicts, and what only one of them wants.

Both are stopped at one position for as long as a snapshot takes to open; it is compared while they go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from annals.audit.one_operator import operators_connection
from annals.audit.replaying import bring_up
from annals.audit.room_compare import common_lows, other_states, other_timelines
from annals.audit.row_diff import TableDiff, diff_tables, rooms_of_rows, save_named
from annals.audit.together import standing_together
from annals.database.generation import checked_generation
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore, storable
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.projectors.stops import withdraw

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a generation made of an event. `verdict` None: it does not have it. `rule`, `reason`: why it is refused."""

    verdict: str | None
    rule: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class EventDiff:
    """An event that two generations judged otherwise."""

    event_id: str
    type: str
    left: Judged
    right: Judged


@dataclass(frozen=True, slots=True)
class KeyDiff:
    """A key of the current state that has another event (None: no event) in each of two generations."""

    type: str
    state_key: str
    left: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class RoomDiff:
    """A room of which two generations believe different things."""

    room_id: str
    keys: tuple[KeyDiff, ...]
    events: tuple[EventDiff, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event that a generation lacks and that nobody fetches for it, as it does not serve."""

    generation: str
    room_id: str
    event_id: str


@dataclass(frozen=True, slots=True)
class GenerationDiff:
    """All differences. `rows` where rows were compared too."""

    rooms: tuple[RoomDiff, ...]
    wanted: tuple[Wanted, ...]
    rows: tuple[TableDiff, ...] | None = None

    @property
    def equal(self) -> bool:
        """Whether there are none."""
        return not self.rooms and all(table.equal for table in self.rows or ())


_KEYS = """
SELECT type, state_key, a.event_id, b.event_id
FROM (SELECT type, state_key, event_id FROM {left}.current_state WHERE room_id = %s) a
FULL JOIN (SELECT type, state_key, event_id FROM {right}.current_state WHERE room_id = %s) b USING (type, state_key)
WHERE a.event_id IS DISTINCT FROM b.event_id ORDER BY type, state_key"""
_EVENTS = """
SELECT event_id, COALESCE(a.type, b.type), a.verdict, a.rule, a.reason, b.verdict, b.rule, b.reason
FROM (SELECT * FROM {left}.events WHERE room_id = %s) a
FULL JOIN (SELECT * FROM {right}.events WHERE room_id = %s) b USING (event_id)
WHERE (a.verdict, a.rule, a.reason) IS DISTINCT FROM (b.verdict, b.rule, b.reason)
ORDER BY COALESCE(a.source, b.source), event_id"""
_WANTED = """
SELECT room_id, event_id FROM {one}.wanted EXCEPT SELECT room_id, event_id FROM {other}.wanted ORDER BY 1, 2"""


def diff(log: Log, database: Database, left: str, right: str, server_name: str, *, rows: bool) -> GenerationDiff:
    """Compare two generations, which may be followed meanwhile. Raises GenerationInUse."""
    for name in (left, right):
        bring_up(log, database, name, server_name)
    with operators_connection(database) as connection:
        found, named = _in_one_snapshot(
            log, database, connection, (left, right), server_name, lambda snapshot: _diff(snapshot, left, right, rows)
        )
        if rows:
            save_named(connection, left, right, named)
    return found


def _in_one_snapshot(
    log: Log,
    database: Database,
    connection: WriteConnection,
    pair: Sequence[str],
    server_name: str,
    compare: Callable[[Snapshot], T],
) -> T:
    def read(snapshot: Snapshot) -> T:
        # It is open: what comes from now on is not in it.
        withdraw(connection, pair)
        return compare(snapshot)

    with standing_together(connection, log, database, pair, server_name):
        return database.read_now(read, generation=pair[0])


def _diff(snapshot: Snapshot, left: str, right: str, rows: bool) -> tuple[GenerationDiff, set[str]]:
    ids = other_states(snapshot, left, right)
    ids |= other_timelines(snapshot, left, right, common_lows(snapshot, left, right), before=True)
    rooms = [_room(snapshot, left, right, room_id) for room_id in sorted(ids)]
    wanted = tuple(_wanted(snapshot, left, right))
    if not rows:
        return GenerationDiff(tuple(rooms), wanted), set()
    tables = diff_tables(snapshot, left, right)
    return GenerationDiff(tuple(rooms), wanted, tuple(tables)), rooms_of_rows(snapshot, left, right, tables)


def _room(snapshot: Snapshot, left: str, right: str, room_id: str) -> RoomDiff:
    names = {"left": checked_generation(left), "right": checked_generation(right)}
    both = (storable(room_id), storable(room_id))
    keys = [
        KeyDiff(restore(kind), restore(state_key), _text(one), _text(other))
        for kind, state_key, one, other in snapshot.rows(_KEYS.format(**names), both)
    ]
    events = [
        EventDiff(restore(event_id), restore(kind), Judged(*map(_text, of[:3])), Judged(*map(_text, of[3:])))
        for event_id, kind, *of in snapshot.rows(_EVENTS.format(**names), both)
    ]
    return RoomDiff(room_id, tuple(keys), tuple(events))


def _wanted(snapshot: Snapshot, left: str, right: str) -> Iterable[Wanted]:
    for one, other in ((left, right), (right, left)):
        sql = _WANTED.format(one=checked_generation(one), other=checked_generation(other))
        for room_id, event_id in snapshot.rows(sql):
            yield Wanted(one, restore(room_id), restore(event_id))


def _text(stored: str | None) -> str | None:
    return None if stored is None else restore(stored)

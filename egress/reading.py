"""Accepted events that are to go out, by stream position: a few set-wise queries for a batch of any size.

What goes out: events of our own users, and member events, since one that another server made through us (send_join,
send_leave, send_knock) is ours to pass on. Never what is an outlier, was backfilled, or is not accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from annals.database.generation import checked_generation
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.egress.vectors import ROOMS, Vector, is_below, topic_end
from annals.matrix.identifiers import domain_of

MEMBER = "m.room.member"

_COLUMNS = """e.partition, e.position, e.room_id, e.event_id, e.type, e.state_key, e.sender, e.source, e.membership,
    e.replaces"""
_GOES_OUT = """e.verdict = 'accepted' AND NOT e.outlier AND NOT e.backfilled
    AND (right(e.sender, length(%s)) = %s OR e.type = 'm.room.member')"""
# A state event that replaced a member event: what the membership was before.
_BEFORE = "LEFT JOIN events p ON p.room_id = e.room_id AND p.event_id = e.replaces"
_STRETCH_SQL = f"""
    SELECT e.*, p.membership FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS w(partition, low, high)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM events e
        WHERE e.partition = w.partition AND e.position >= w.low AND e.position < w.high AND {_GOES_OUT}
        ORDER BY e.position LIMIT %s
    ) AS e
    {_BEFORE}
    ORDER BY e.partition, e.position
"""
# As the index current_state_joined_by_server has it.
SERVER_OF = "substr({0}, strpos({0}, ':') + 1)"
# The rooms of one server: those with a member of its now, and those in which one of its members changed since.
_OF_SERVER_SQL = f"""
    WITH w AS (SELECT * FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS w(partition, low, high)),
    its AS (
        SELECT cs.room_id, cs.partition FROM current_state cs
        WHERE cs.type = 'm.room.member' AND cs.membership = 'join' AND {SERVER_OF.format("cs.state_key")} = %s
        UNION
        SELECT d.room_id, d.partition FROM w
        JOIN current_state_deltas d ON d.partition = w.partition AND d.position >= w.low AND d.position < w.high
        WHERE d.type = 'm.room.member' AND {SERVER_OF.format("d.state_key")} = %s
    )
    SELECT e.*, p.membership FROM its JOIN w ON w.partition = its.partition
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM events e
        WHERE e.room_id = its.room_id AND e.position >= w.low AND e.position < w.high AND {_GOES_OUT}
        ORDER BY e.position {{order}} LIMIT %s
    ) AS e
    {_BEFORE}
    ORDER BY e.partition, e.position LIMIT %s
"""
_SWITCHES_SQL = "SELECT previous, vector FROM ops.switches"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event that may have to go out. `membership_before`: of the user whom a member event is about."""

    partition: int
    position: int
    room_id: str
    event_id: str
    type: str
    state_key: str | None
    sender: str
    source: int
    membership: str | None
    membership_before: str | None

    @property
    def is_member(self) -> bool:
        """Whether it is a member event."""
        return self.type == MEMBER

    @property
    def removed_server(self) -> str | None:
        """The server of a user whom the event removes, who may not have been joined: it has to hear of it too."""
        removes = self.is_member and self.membership in ("leave", "ban")
        if removes and self.membership_before in ("invite", "knock", "join") and self.state_key:
            return server_of(self.state_key)
        return None


def server_of(user_id: str) -> str | None:
    """The server in a user id; None for what is none (a state key may be anything)."""
    return domain_of(user_id) if user_id.startswith("@") and ":" in user_id else None


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was read, in order of partition and position; all of it that lies in [low, high)."""

    low: Vector
    high: Vector
    events: tuple[Outgoing, ...]


def read_stretch(snapshot: Snapshot, us: str, low: Vector, high: Vector, limit: int) -> Stretch:
    """What goes out from `low` on, of each partition at most `limit`; ends before `high` where there is more."""
    bounds = _bounds(low, high)
    if not bounds[0]:
        return Stretch(low, low, ())
    ours = f":{us}"
    rows = snapshot.rows(_STRETCH_SQL, (*bounds, ours, ours, limit))
    counts: dict[int, int] = {}
    end = list(high)
    for row in rows:
        counts[row[0]] = counts.get(row[0], 0) + 1
        if counts[row[0]] == limit:
            end[row[0]] = row[1] + 1
    return Stretch(low, tuple(end), _kept(snapshot, rows))


def read_of_server(snapshot: Snapshot, us: str, server: str, low: Vector, high: Vector, limit: int) -> Stretch:
    """The same of the rooms of one server, at most `limit` in all."""
    rows = _rows_of_server(snapshot, us, server, low, high, ("", limit, limit))
    end = high
    if len(rows) == limit:
        partition, position = rows[-1][:2]
        end = (*high[:partition], position + 1, *low[partition + 1 :])
    return Stretch(low, end, _kept(snapshot, rows))


def read_latest_of_server(snapshot: Snapshot, us: str, server: str, low: Vector, high: Vector) -> Stretch:
    """The latest of each room of one server."""
    rows = _rows_of_server(snapshot, us, server, low, high, ("DESC", 1, None))
    return Stretch(low, high, _kept(snapshot, rows))


def _rows_of_server(
    snapshot: Snapshot, us: str, server: str, low: Vector, high: Vector, how: tuple[str, int, int | None]
) -> list[tuple[Any, ...]]:
    bounds = _bounds(low, high)
    if not bounds[0]:
        return []
    order, of_room, limit = how
    ours = f":{us}"
    sql = _OF_SERVER_SQL.format(order=order)
    return snapshot.rows(sql, (*bounds, server, server, ours, ours, of_room, limit))


def _bounds(low: Vector, high: Vector) -> tuple[list[int], list[int], list[int]]:
    moved = [(n, first, end) for n, (first, end) in enumerate(zip(low, high, strict=True)) if first < end]
    return [n for n, _, _ in moved], [first for _, first, _ in moved], [end for _, _, end in moved]


def _kept(snapshot: Snapshot, rows: Iterable[Sequence[Any]]) -> tuple[Outgoing, ...]:
    events = [
        Outgoing(
            partition=row[0],
            position=row[1],
            room_id=restore(row[2]),
            event_id=restore(row[3]),
            type=restore(row[4]),
            state_key=None if row[5] is None else restore(row[5]),
            sender=restore(row[6]),
            source=row[7],
            membership=row[8],
            membership_before=row[10],
        )
        for row in rows
    ]
    if not events:
        return ()
    for previous, vector in _switches(snapshot):
        events = _accepted_by(snapshot, previous, vector, events)
    return tuple(events)


def _switches(snapshot: Snapshot) -> list[tuple[str, Vector]]:
    """Each switch so far: the generation that served before it, and where it happened."""
    found = []
    for previous, vector in snapshot.rows(_SWITCHES_SQL):
        offsets = {(topic, partition): offset for topic, partition, offset in orjson.loads(vector)}
        found.append((checked_generation(previous), topic_end(offsets, ROOMS)))
    return found


def _accepted_by(snapshot: Snapshot, previous: str, vector: Vector, events: Sequence[Outgoing]) -> list[Outgoing]:
    """Below a switch, only what the generation before it accepted too goes out: a decision that a switch changed
    sends nothing. Where its tables are gone, nothing below the switch does."""
    below = [event for event in events if is_below(vector, event.partition, event.position)]
    if not below:
        return list(events)
    accepted: set[tuple[str, str]] = set()
    if snapshot.one("SELECT to_regclass(%s)::text", (f"{previous}.events",)) not in (None, (None,)):
        rows = snapshot.rows(
            f"""
            SELECT e.room_id, e.event_id FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
            JOIN {previous}.events e ON e.room_id = w.room_id AND e.event_id = w.event_id
            WHERE e.verdict = 'accepted' AND NOT e.outlier
            """,
            ([event.room_id for event in below], [event.event_id for event in below]),
        )
        accepted = {(restore(room_id), restore(event_id)) for room_id, event_id in rows}
    return [
        event
        for event in events
        if not is_below(vector, event.partition, event.position) or (event.room_id, event.event_id) in accepted
    ]

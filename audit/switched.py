"""What a switch of generations leaves to be said: kept in `ops` with the switch, written as facts, once each.

Whoever comes next writes what is left, where the one that switched was killed: the next switch, or the process `remote`
of a running server.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson

from annals.audit.one_operator import Vector, operators_connection
from annals.audit.operating import Operating
from annals.database.pool import Database
from annals.database.text import restore, storable
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.eventlog.partition import partition_of
from annals.eventlog.reading import records_between
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.operations import GenerationSwitched, StoodAt
from annals.schemas.facts.rooms import RoomRebuilt

ROOMS, OPERATIONS = "rooms", "operations"
_FACTS_AT_ONCE = 200
#: In one fact: a record has 64 KiB, and a user id up to 255 bytes.
_USERS_AT_ONCE = 200

#: A room, and users of it.
_Part = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Switched:
    """A switch, as it is recorded in `ops.switches`. `rooms` are those that get a `RoomRebuilt`; `users`, each with the
    room, are those of ours whose own membership became another one, or none."""

    switch: str
    generation: str
    previous: str
    vector: Vector
    rooms: tuple[str, ...]
    actor: str
    reason: str
    users: tuple[tuple[str, str], ...] = ()


def record(connection: WriteConnection, done: Switched) -> None:
    """Keep it, within the transaction that switches."""
    vector = orjson.dumps([[*which, offset] for which, offset in sorted(done.vector.items())]).decode()
    rooms = [storable(room_id) for room_id in done.rooms]
    connection.execute(
        "INSERT INTO ops.switches (switch, generation, previous, vector, rooms, actor, reason)"
        " VALUES (%s, %s, %s, %s, %s::text[], %s, %s)",
        (done.switch, done.generation, done.previous, vector, rooms, done.actor, done.reason),
    )
    connection.execute(
        "INSERT INTO ops.switched_memberships (switch, room_id, user_id)"
        " SELECT %s, u.room_id, u.user_id FROM unnest(%s::text[], %s::text[]) AS u(room_id, user_id)",
        (done.switch, *([storable(user[n]) for user in done.users] for n in (0, 1))),
    )


def finish(operating: Operating, database: Database) -> list[Switched]:
    """Write what a switch that was killed had not written. Raises GenerationInUse while another one is under way."""
    with operators_connection(database) as connection:
        return finish_on(connection, operating)


def has_unfinished(database: Database) -> bool:
    """Whether `finish` has anything to do."""
    sql = "SELECT 1 FROM ops.switches WHERE NOT finished LIMIT 1"
    return bool(database.write_now(lambda statements: statements.rows(sql)))


def finish_on(connection: WriteConnection, operating: Operating) -> list[Switched]:
    """The same, for who holds the lock. What was written already is found on the log, and not written again."""
    found = _unfinished(connection)
    for done in found:
        told = _told(operating.log, done)
        left = [part for part in _parts(done) if part not in told]
        for first in range(0, len(left), _FACTS_AT_ONCE):
            operating.append([_rebuilt(operating, done, *part) for part in left[first : first + _FACTS_AT_ONCE]])
        if not _is_on_log(operating.log, done):
            operating.append([_fact(operating, done)])
        connection.execute("UPDATE ops.switches SET finished = true WHERE switch = %s", (done.switch,))
    return found


def _unfinished(connection: WriteConnection) -> list[Switched]:
    rows = connection.rows(
        "SELECT switch, generation, previous, vector, rooms, actor, reason FROM ops.switches WHERE NOT finished"
    )
    found = []
    for name, generation, previous, vector, rooms, actor, reason in rows:
        offsets = {(topic, partition): offset for topic, partition, offset in orjson.loads(vector)}
        ids = tuple(restore(room_id) for room_id in rooms)
        users = _users(connection, name)
        found.append(Switched(name, generation, previous, offsets, ids, restore(actor), restore(reason), users))
    return found


def _users(connection: WriteConnection, switch_id: str) -> tuple[tuple[str, str], ...]:
    sql = "SELECT room_id, user_id FROM ops.switched_memberships WHERE switch = %s ORDER BY room_id, user_id"
    return tuple((restore(room_id), restore(user_id)) for room_id, user_id in connection.rows(sql, (switch_id,)))


def _parts(done: Switched) -> list[_Part]:
    """What the facts of a switch say, a fact each: every listed room, with so many of its users at a time."""
    users: dict[str, list[str]] = {room_id: [] for room_id in done.rooms}
    for room_id, user_id in done.users:
        users[room_id].append(user_id)
    return [
        (room_id, tuple(of_room[first : first + _USERS_AT_ONCE]))
        for room_id, of_room in users.items()
        for first in range(0, max(len(of_room), 1), _USERS_AT_ONCE)
    ]


def _rebuilt(operating: Operating, done: Switched, room_id: str, users: tuple[str, ...]) -> RoomRebuilt:
    key = " ".join((done.switch, room_id, *users[:1]))
    return RoomRebuilt(
        replace(operating.envelope(), cause=done.switch, idempotency_key=key), room_id, done.switch, users
    )


def _fact(operating: Operating, done: Switched) -> GenerationSwitched:
    stood = tuple(StoodAt(*which, offset) for which, offset in sorted(done.vector.items()))
    facts = (done.generation, done.previous, stood, len(done.rooms), done.actor, done.reason)
    return GenerationSwitched(operating.envelope(), done.switch, *facts)


def _told(log: Log, done: Switched) -> set[_Part]:
    """What has its fact."""
    partitions = {partition_of(room_id, log.partitions(ROOMS)) for room_id in done.rooms}
    found = _facts(log, done, ((ROOMS, partition) for partition in partitions))
    return {
        (fact.room_id, fact.users) for fact in found if isinstance(fact, RoomRebuilt) and fact.switch == done.switch
    }


def _is_on_log(log: Log, done: Switched) -> bool:
    facts = _facts(log, done, [(OPERATIONS, 0)])
    return any(isinstance(fact, GenerationSwitched) and fact.switch == done.switch for fact in facts)


def _facts(log: Log, done: Switched, where: Iterable[tuple[str, int]]) -> Iterable[object]:
    """What came after the switch."""
    for topic, partition in where:
        for record in records_between(log, topic, partition, done.vector[topic, partition]):
            try:
                yield decode(record.value) if record.value is not None else None
            except Undecodable:
                continue

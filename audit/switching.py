"""Another generation serves: between two records of the log, and back the same way.

    follow both ─▶ hash what they have ─▶ stop both at the log's ends ─▶ one transaction ─▶ a `RoomRebuilt` for each
                                          (5 s, or it is withdrawn)      lists the rooms     room that they have
                                                                         that differ, flips  otherwise

Killed before the transaction, nothing has happened: a stop ends by itself. Killed after it, whoever comes next writes
the rest (`finish`): the next switch, or the process `remote` of a running server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import orjson

from annals.audit.following import follow
from annals.audit.generations import GenerationInUse, live_owner, recorded_generations
from annals.audit.operating import Operating
from annals.audit.replaying import bring_up
from annals.audit.room_compare import common_lows, other_states, other_timelines
from annals.audit.row_diff import named_by_rows
from annals.audit.together import Vector, operators_connection, standing_together
from annals.database import ops
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore, storable
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.eventlog.partition import partition_of
from annals.projectors.notices import CHANNEL, switch_payload
from annals.projectors.positions.read import lags, vector_of
from annals.projectors.stops import clear, lock_positions, positions
from annals.projectors.taking import records_between
from annals.schemas.codec import decode
from annals.schemas.errors import Undecodable
from annals.schemas.facts.operations import AdminCommanded, GenerationSwitched, StoodAt
from annals.schemas.facts.rooms import RoomRebuilt

ROOMS, OPERATIONS = "rooms", "operations"
#: How long the other generation may take to come near the end of the log.
NEAR_TIMEOUT_S = 120.0
#: Near enough to be stopped: so many records behind.
NEAR_RECORDS = 200
_LOOK_AGAIN_S = 0.1
_FACTS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Switched:
    """A switch, as it is recorded in `ops.switches`. `rooms` are those that get a `RoomRebuilt`."""

    switch: str
    generation: str
    previous: str
    vector: Vector
    rooms: tuple[str, ...]
    actor: str
    reason: str


def switch(
    operating: Operating,
    database: Database,
    name: str,
    server_name: str,
    actor: str,
    reason: str,
    say: Callable[[str], None] = lambda line: None,
) -> Switched:
    """Make `name` serve. Raises GenerationInUse, with nothing changed."""
    log = operating.log
    with operators_connection(database) as connection:
        for unfinished in finish_on(connection, operating):
            say(f"the switch to {unfinished.generation} before this one is finished: {len(unfinished.rooms)} rooms")
        previous = ops.serving(connection)
        if previous == name:
            raise GenerationInUse(f"{name} serves already")
        _check(log, connection, database, previous, name)
        arguments = orjson.dumps({"generation": name, "previous": previous})
        operating.append([AdminCommanded(operating.envelope(is_cause=True), actor, "switch", arguments, reason)])
        pair = (previous, name)
        for generation in pair:
            follow(connection, generation)
        _bring_near(log, database, pair, server_name, say)
        lows, known = database.read_now(lambda s: _compared(s, *pair), generation=previous)
        with standing_together(connection, log, database, pair, server_name) as vector:
            wanted = Switched(operating.request_id, name, previous, vector, (), actor, reason)
            done = _flip(connection, wanted, lows, known)
        say(f"{name} serves, {previous} is followed; {len(done.rooms)} rooms are told anew")
        list(finish_on(connection, operating))
    return done


def _check(log: Log, connection: WriteConnection, database: Database, previous: str, name: str) -> None:
    recorded = recorded_generations(log)
    if name not in recorded or recorded[name].dropped:
        raise GenerationInUse(f"there is no generation {name}")
    modes = {recorded[each].mode for each in (previous, name) if each in recorded}
    # What a fold cures is in the rows, and in no fingerprint.
    if "fold" in modes and named_by_rows(connection, previous, name) is None:
        raise GenerationInUse(f"one of them is a fold: say first `annals diff --rows {previous} {name}`")


def _bring_near(
    log: Log, database: Database, pair: Sequence[str], server_name: str, say: Callable[[str], None]
) -> None:
    """Have both near the end of the log: by the processes that project them, or here where no server runs."""
    if live_owner(database, pair[0]) is None:
        for generation in pair:
            bring_up(log, database, generation, server_name)
        return
    deadline_s = time.monotonic() + NEAR_TIMEOUT_S
    said = False
    while (behind := _behind(log, database, pair)) > NEAR_RECORDS or any(live_owner(database, g) is None for g in pair):
        if time.monotonic() > deadline_s:
            raise GenerationInUse(
                f"{pair[1]} is {behind} records behind and does not come near. The server's process `projectors`"
                f" follows it from now on (or start `annals run projectors --generation {pair[1]}`): try again later"
            )
        if not said:
            say(f"waiting for {pair[1]} to be followed")
            said = True
        time.sleep(_LOOK_AGAIN_S)


def _behind(log: Log, database: Database, pair: Sequence[str]) -> int:
    return max(
        sum(lags(log, database.read_now(lambda s: vector_of(s.positions), generation=name)).values()) for name in pair
    )


def _compared(snapshot: Snapshot, previous: str, name: str) -> tuple[dict[int, int], set[str]]:
    lows = common_lows(snapshot, previous, name)
    return lows, other_timelines(snapshot, previous, name, lows, before=True)


def _flip(connection: WriteConnection, wanted: Switched, lows: dict[int, int], known: set[str]) -> Switched:
    """The one transaction. Raises GenerationInUse where the stop ended before it came."""
    previous, name = wanted.previous, wanted.generation
    connection.begin()
    try:
        lock_positions(connection, (previous, name))
        for generation in (previous, name):
            found = positions(connection, generation)
            if any(found.get(which) != offset for which, offset in wanted.vector.items()):
                raise GenerationInUse("the stop ended before the switch: try again")
        rooms = known | other_states(connection, previous, name)
        rooms |= other_timelines(connection, previous, name, lows, before=False)
        rooms |= named_by_rows(connection, previous, name) or set()
        done = Switched(wanted.switch, name, previous, wanted.vector, tuple(sorted(rooms)), wanted.actor, wanted.reason)
        # Whoever wrote it takes it anew, and hears so of what happened.
        connection.execute(f"UPDATE {previous}.positions SET epoch = epoch + 1")
        clear(connection, (previous, name))
        ops.serve(connection, name)
        _record(connection, done)
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, switch_payload(name, wanted.vector)))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return done


def _record(connection: WriteConnection, done: Switched) -> None:
    vector = orjson.dumps([[*which, offset] for which, offset in sorted(done.vector.items())]).decode()
    rooms = [storable(room_id) for room_id in done.rooms]
    connection.execute(
        "INSERT INTO ops.switches (switch, generation, previous, vector, rooms, actor, reason)"
        " VALUES (%s, %s, %s, %s, %s::text[], %s, %s)",
        (done.switch, done.generation, done.previous, vector, rooms, done.actor, done.reason),
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
        left = [room_id for room_id in done.rooms if room_id not in told]
        for first in range(0, len(left), _FACTS_AT_ONCE):
            operating.append([_rebuilt(operating, done, room_id) for room_id in left[first : first + _FACTS_AT_ONCE]])
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
        found.append(Switched(name, generation, previous, offsets, ids, restore(actor), restore(reason)))
    return found


def _rebuilt(operating: Operating, done: Switched, room_id: str) -> RoomRebuilt:
    envelope = replace(operating.envelope(), cause=done.switch, idempotency_key=f"{done.switch} {room_id}")
    return RoomRebuilt(envelope, room_id, done.switch)


def _fact(operating: Operating, done: Switched) -> GenerationSwitched:
    stood = tuple(StoodAt(*which, offset) for which, offset in sorted(done.vector.items()))
    facts = (done.generation, done.previous, stood, len(done.rooms), done.actor, done.reason)
    return GenerationSwitched(operating.envelope(), done.switch, *facts)


def _told(log: Log, done: Switched) -> set[str]:
    """The rooms that have their fact."""
    partitions = {partition_of(room_id, log.partitions(ROOMS)) for room_id in done.rooms}
    found = _facts(log, done, ((ROOMS, partition) for partition in partitions))
    return {fact.room_id for fact in found if isinstance(fact, RoomRebuilt) and fact.switch == done.switch}


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

"""Another generation serves: between two records of the log, and back the same way.

    follow both ─▶ hash what they have ─▶ stop both at the log's ends ─▶ one transaction ─▶ a `RoomRebuilt` for each
                                          (5 s, or it is withdrawn)      lists the rooms     room that they have
                                                                         that differ, flips  otherwise

Killed before the transaction, nothing has happened: a stop ends by itself. Killed after it, whoever comes next writes
the rest (`annals.audit.switched`): the next switch, or the process `remote` of a running server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson

from annals.audit.errors import GenerationInUse
from annals.audit.following import follow
from annals.audit.generations import live_owner, recorded_generations
from annals.audit.one_operator import operators_connection
from annals.audit.operating import Operating
from annals.audit.replaying import bring_up
from annals.audit.room_compare import common_lows, other_memberships, other_states, other_timelines
from annals.audit.row_diff import named_by_rows
from annals.audit.switched import Switched, finish_on, record
from annals.audit.together import standing_together
from annals.database import ops
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.projectors.notices import CHANNEL, switch_payload
from annals.projectors.positions.read import lags, vector_of
from annals.projectors.stops import clear, lock_positions, positions
from annals.schemas.facts.operations import AdminCommanded

#: How long the other generation may take to come near the end of the log.
NEAR_TIMEOUT_S = 120.0
#: Near enough to be stopped: so many records behind.
NEAR_RECORDS = 200
_LOOK_AGAIN_S = 0.1


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
        users = other_memberships(connection, previous, name, rooms)
        done = replace(wanted, rooms=tuple(sorted(rooms)), users=tuple(users))
        # Whoever wrote it takes it anew, and hears so of what happened.
        connection.execute(f"UPDATE {previous}.positions SET epoch = epoch + 1")
        clear(connection, (previous, name))
        ops.serve(connection, name)
        record(connection, done)
        connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, switch_payload(name, wanted.vector)))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return done

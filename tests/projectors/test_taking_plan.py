"""The plan by which events are looked up does for a table of any size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.transaction import Transactions
from annals.schemas.facts.rooms import PduFact
from tests.support.postgres import PostgresServer
from tests.support.projectors import append, connector, running
from tests.support.room_traffic import numbered_room
from tests.support.rooms import user
from tests.support.spare_tables import spare_tables

_EXPLAIN = "EXPLAIN EXECUTE take (" + ", ".join(["'{}'"] * 13) + ")"
_GROW = """
    INSERT INTO g1.events SELECT (jsonb_populate_record(NULL::g1.events, to_jsonb(e) || jsonb_build_object(
        'event_id', '$' || n, 'position', -n, 'source', -n, 'idempotency_key', 'key' || n))).*
    FROM (SELECT * FROM g1.events LIMIT 1) AS e, generate_series(1, 5000) AS n
"""


@pytest.fixture
def tables_url(postgres: PostgresServer) -> Iterator[str]:
    """A database of which nothing is known to the planner."""
    with spare_tables(postgres).unused() as url:
        yield url


def test_events_are_found_by_their_id_from_an_empty_table_on(log: EmbeddedLog, tables_url: str) -> None:
    connection = connector(tables_url)()
    try:
        Transactions(connection, "g1", DecisionsLog(log, "g1"))
        plan = [line for (line,) in connection.rows(_EXPLAIN)]
    finally:
        connection.close()
    _by_key, by_id = [line for line in plan if " on events " in line]
    assert "using events_by_id on" in by_id, plan


def test_the_plan_of_a_small_table_does_not_outlast_its_growth(log: EmbeddedLog, tables_url: str) -> None:
    room = numbered_room("12", 1)
    setup = list(room.tables.facts.values())
    said = [room.send(user("alice"), "m.room.message", {"body": str(n)}).event_id for n in range(40)]
    facts = {fact.event_id: fact for fact in room.tables.facts.values() if isinstance(fact, PduFact)}
    other = connector(tables_url)()
    try:
        # Nothing but us makes plans anew.
        other.execute("ALTER TABLE g1.events SET (autovacuum_enabled = false)")
        with running(log, connector(tables_url)) as loop:
            append(log, setup)
            loop.catch_up()
            other.execute("ANALYZE g1.events")
            append(log, [facts[said[0]]])
            loop.catch_up()
            other.execute(_GROW)
            for event_id in said[1:]:
                append(log, [facts[event_id]])
                loop.catch_up()
            assert loop._connection is not None
            plan = " ".join(line for (line,) in loop._connection.rows(_EXPLAIN))
    finally:
        other.close()
    assert "Index Cond: ((room_id = k.room_id) AND (idempotency_key = k.idempotency_key))" in plan
    assert "using events_by_id on" in plan

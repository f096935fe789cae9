"""The plan by which events are looked up is made once, for a table of any size."""

from __future__ import annotations

from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.transaction import Transactions
from tests.support.projectors import connector


def test_events_are_found_by_their_id_from_an_empty_table_on(log: EmbeddedLog, tables_url: str) -> None:
    connection = connector(tables_url)()
    try:
        Transactions(connection, "g1", DecisionsLog(log, "g1"))
        arguments = ", ".join(["'{}'"] * 13)
        plan = [line for (line,) in connection.rows(f"EXPLAIN EXECUTE take ({arguments})")]
    finally:
        connection.close()
    _by_key, by_id = [line for line in plan if " on events " in line]
    assert "using events_by_id on" in by_id, plan

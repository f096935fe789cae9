"""Bringing a generation to a position while others write it: who begins meanwhile is waited for, a stop ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from annals.audit.replaying import bring_up
from annals.database.pool import Database
from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors import stops
from annals.projectors.loop import Loop
from annals.projectors.positions.read import projected_ends
from annals.projectors.rebuild import Pace
from annals.schemas.facts.operations import GenerationCreated
from tests.support.projectors import SERVER_NAME, append, connector, envelope, running, simple_facts


@pytest.fixture
def database(tables_url: str) -> Iterator[Database]:
    opened = Database(tables_url, threads=1)
    yield opened
    opened.close()


def test_who_begins_to_write_it_meanwhile_is_waited_for(
    log: EmbeddedLog, tables_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, [GenerationCreated(envelope(), "g1", "serve"), *simple_facts(random.Random(1), 40)])
    loops: list[Loop] = []
    with ExitStack() as stack:

        def taken_from_it(_: Pace) -> None:
            if not loops:
                loops.append(stack.enter_context(running(log, connector(tables_url), owner="server")))
                append(log, simple_facts(random.Random(2), 5))
                loops[0].catch_up()
                append(log, simple_facts(random.Random(3), 5))

        monkeypatch.setattr(Pace, "rest", taken_from_it)
        looked = Database.read_now

        def goes_on(*arguments: object, **named: object) -> object:
            if loops:
                loops[0].catch_up()
            return looked(*arguments, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Database, "read_now", goes_on)
        bring_up(log, database, "g1", SERVER_NAME)
        (loop,) = loops
        assert {key[1:]: at for key, at in loop.positions.items()} == projected_ends(log)


def test_a_stop_that_cannot_be_withdrawn_ends_by_itself(
    log: EmbeddedLog, tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "STOP_S", 0.5)
    append(log, simple_facts(random.Random(4), 10))
    operator, batch = (WriteConnection(tables_url, "g1") for _ in range(2))
    with running(log, connector(tables_url)) as loop:
        loop.catch_up()
        stops.stop(operator, ["g1"], lambda: projected_ends(log))
        monkeypatch.setattr(stops, "_LOCK_WAIT_MS", 50)
        batch.begin()
        batch.execute("LOCK TABLE positions IN ROW EXCLUSIVE MODE")
        stops.withdraw(operator, ["g1"])
        batch.rollback()
        assert operator.rows("SELECT count(*) FROM positions WHERE stop_at IS NOT NULL") != [(0,)]
        append(log, simple_facts(random.Random(5), 10))
        while {key[1:]: at for key, at in loop.positions.items()} != projected_ends(log):
            loop.step(0.05)
    operator.close()
    batch.close()

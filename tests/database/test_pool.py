"""Reads: one snapshot, one generation, the caller first."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from annals.database.errors import (
    BadGenerationName,
    ConnectionLost,
    DatabaseBusy,
    DatabaseClosed,
    DatabaseError,
    NotMigrated,
    SnapshotClosed,
    StatementFailed,
    StatementTimeout,
)
from annals.database.migrate import drop_generation
from annals.database.pool import Database
from annals.database.session import Session
from annals.database.snapshot import Snapshot
from annals.database.write_connection import WriteConnection
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer, database_name
from tests.support.statements import count_statements


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    pool = Database(url, threads=2)
    yield pool
    pool.close()


def switch(writer: WriteConnection, generation: str) -> None:
    writer.execute("UPDATE ops.serving SET generation = %s", (generation,))


def terminate_readers(writer: WriteConnection) -> int:
    rows = writer.rows(
        "SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity"
        " WHERE application_name = 'annals read' AND datname = current_database()"
    )
    return len(rows)


def test_a_read_answers_in_an_event_loop(database: Database) -> None:
    async def read() -> Any:
        return await database.read(lambda snapshot: snapshot.one("SELECT 1 + %s", (2,)))

    assert asyncio.run(read()) == (3,)


def test_generation_and_positions_come_with_begin(database: Database, writer: WriteConnection) -> None:
    assert database.read_now(lambda snapshot: (snapshot.generation, snapshot.positions)) == ("g1", [])
    writer.execute("INSERT INTO positions VALUES ('rooms', 7), ('users', NULL)")
    with count_statements(database) as sent:
        positions = database.read_now(lambda snapshot: sorted(snapshot.positions))
    assert positions == [("rooms", 7), ("users", None)]
    assert len(sent.all) == 1


def test_what_is_committed_during_a_read_is_not_seen(database: Database, writer: WriteConnection) -> None:
    def fn(snapshot: Snapshot) -> tuple[Any, Any]:
        writer.execute("INSERT INTO positions VALUES ('rooms', 7)")
        return snapshot.positions, snapshot.rows("SELECT * FROM positions")

    assert database.read_now(fn) == ([], [])
    assert database.read_now(fn)[0] == [("rooms", 7)]


def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises(StatementFailed) as failure:
        database.read_now(lambda snapshot: snapshot.rows("INSERT INTO positions VALUES ('a', 1) RETURNING topic"))
    assert failure.value.sqlstate == "25006"


def test_a_switch_is_seen_by_the_next_read(database: Database, writer: WriteConnection) -> None:
    writer.execute("INSERT INTO g2.positions VALUES ('rooms', 9)")
    assert database.read_now(lambda snapshot: snapshot.generation) == "g1"
    switch(writer, "g2")
    for _ in range(4):  # both threads
        assert database.read_now(lambda s: (s.generation, s.positions, s.rows("SELECT * FROM positions"))) == (
            "g2",
            [("rooms", 9)],
            [("rooms", 9)],
        )


@pytest.mark.usefixtures("own_database")
def test_the_old_generation_may_be_gone(database: Database, url: str, writer: WriteConnection) -> None:
    assert database.read_now(lambda snapshot: snapshot.generation) == "g1"
    switch(writer, "g2")
    drop_generation(url, "g1")
    assert database.read_now(lambda snapshot: snapshot.generation) == "g2"


def test_a_generation_that_does_not_serve_can_be_read_by_name(database: Database, writer: WriteConnection) -> None:
    writer.execute("INSERT INTO g2.positions VALUES ('rooms', 9)")
    assert database.read_now(lambda snapshot: snapshot.positions, generation="g2") == [("rooms", 9)]
    assert database.read_now(lambda snapshot: snapshot.positions) == []
    with pytest.raises(NotMigrated):
        database.read_now(lambda snapshot: snapshot.positions, generation="g3")
    with pytest.raises(BadGenerationName):
        database.read_now(lambda snapshot: snapshot.positions, generation="ops")


@pytest.mark.usefixtures("own_database")
def test_positions_may_get_other_columns(database: Database, writer: WriteConnection) -> None:
    for _ in range(4):
        assert database.read_now(lambda snapshot: snapshot.positions) == []
    writer.execute("ALTER TABLE positions ADD COLUMN epoch bigint; INSERT INTO positions VALUES ('a', 1, 2)")
    for _ in range(4):
        assert database.read_now(lambda snapshot: snapshot.positions) == [("a", 1, 2)]


def test_a_database_without_tables_says_so(database_url: str) -> None:
    pool = Database(database_url, threads=1)
    with pytest.raises(NotMigrated):
        pool.read_now(lambda snapshot: snapshot.positions)
    pool.close()


def test_the_caller_does_not_wait_for_the_rollback(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    may_finish, finished = threading.Event(), threading.Event()
    finish = Session.finish

    def slow_finish(session: Session) -> None:
        may_finish.wait(PATIENCE_S)
        finish(session)
        finished.set()

    database.read_now(lambda snapshot: None)
    monkeypatch.setattr(Session, "finish", slow_finish)
    database.read_now(lambda snapshot: snapshot.one("SELECT 1"))
    assert not finished.is_set()
    may_finish.set()
    assert finished.wait(PATIENCE_S)


def test_no_transaction_stays_open(database: Database, writer: WriteConnection) -> None:
    def fail(snapshot: Snapshot) -> None:
        raise KeyError("mine")

    for fn in (fail, lambda snapshot: snapshot.rows("SELECT nonsense")):
        with pytest.raises((KeyError, StatementFailed)):
            database.read_now(fn)
    database.read_now(lambda snapshot: None)
    deadline = time.monotonic() + PATIENCE_S
    busy = [("?",)]
    while busy and time.monotonic() < deadline:
        busy = writer.rows(
            "SELECT state FROM pg_stat_activity WHERE application_name = 'annals read'"
            " AND datname = current_database() AND state <> 'idle'"
        )
    assert busy == []


def test_a_lost_connection_is_replaced_and_the_read_repeated_whole(database: Database, writer: WriteConnection) -> None:
    calls: list[tuple[Any, ...] | None] = []

    def fn(snapshot: Snapshot) -> tuple[Any, ...] | None:
        calls.append(snapshot.one("SELECT 1"))
        if len(calls) == 1:
            assert terminate_readers(writer) >= 1
        return snapshot.one("SELECT 2")

    assert database.read_now(fn) == (2,)
    assert calls == [(1,), (1,)]


def test_an_idle_connection_that_was_cut_is_not_noticed_by_readers(database: Database, writer: WriteConnection) -> None:
    for _ in range(4):
        database.read_now(lambda snapshot: None)
    assert terminate_readers(writer) >= 1
    for _ in range(4):
        assert database.read_now(lambda snapshot: snapshot.one("SELECT 1")) == (1,)


def test_a_connection_that_breaks_twice_is_reported(database: Database, writer: WriteConnection) -> None:
    def fn(snapshot: Snapshot) -> None:
        terminate_readers(writer)
        snapshot.one("SELECT 1")

    with pytest.raises(ConnectionLost):
        database.read_now(fn)
    assert database.read_now(lambda snapshot: snapshot.one("SELECT 1")) == (1,)


def test_nobody_there() -> None:
    pool = Database("postgresql://annals@127.0.0.1:1/none", threads=1)
    with pytest.raises(ConnectionLost):
        pool.read_now(lambda snapshot: None)
    pool.close()


def test_a_statement_that_takes_too_long_is_cut(url: str) -> None:
    pool = Database(url, threads=1, statement_timeout_ms=50)
    with pytest.raises(StatementTimeout):
        pool.read_now(lambda snapshot: snapshot.rows("SELECT pg_sleep(10)"))
    found = None
    while found is None:
        # On a slow machine this, too, may be cut.
        with suppress(StatementTimeout):
            found = pool.read_now(lambda snapshot: snapshot.one("SELECT 1"))
    assert found == (1,)
    pool.close()


def test_more_waiters_than_admitted_are_refused(url: str) -> None:
    pool = Database(url, threads=1, waiting_max=2)
    entered, release = threading.Event(), threading.Event()

    def hold(snapshot: Snapshot) -> None:
        entered.set()
        release.wait(PATIENCE_S)

    async def crowd() -> list[Any]:
        first = asyncio.ensure_future(pool.read(hold))
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        others = [asyncio.ensure_future(pool.read(lambda snapshot: 5)) for _ in range(3)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    results = asyncio.run(crowd())
    assert results[:3] == [None, 5, 5]
    assert isinstance(results[3], DatabaseBusy)
    pool.close()


def test_a_read_that_nobody_awaits_any_more_is_not_made(url: str) -> None:
    pool = Database(url, threads=1)
    entered, release = threading.Event(), threading.Event()
    made: list[int] = []

    def hold(snapshot: Snapshot) -> None:
        entered.set()
        release.wait(PATIENCE_S)

    async def cancel() -> None:
        first = asyncio.ensure_future(pool.read(hold))
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        second = asyncio.ensure_future(pool.read(lambda snapshot: made.append(2)))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        release.set()
        await first
        await pool.read(lambda snapshot: made.append(3))

    asyncio.run(cancel())
    assert made == [3]
    pool.close()


def test_a_snapshot_ends_with_its_read(database: Database) -> None:
    snapshot = database.read_now(lambda snapshot: snapshot)
    with pytest.raises(SnapshotClosed):
        snapshot.rows("SELECT 1")


def test_a_read_in_a_read_is_refused(database: Database) -> None:
    with pytest.raises(DatabaseError, match="inside"):
        database.read_now(lambda snapshot: database.read_now(lambda inner: None))


def test_a_closed_pool_refuses(url: str) -> None:
    pool = Database(url)
    pool.close()
    pool.close()
    with pytest.raises(DatabaseClosed):
        pool.read_now(lambda snapshot: None)


def test_a_read_that_raises_stop_iteration_does_not_hang(database: Database) -> None:
    async def read() -> Any:
        return await asyncio.wait_for(database.read(lambda snapshot: next(iter(()))), PATIENCE_S)

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(read())


def test_one_refuses_two_rows(database: Database) -> None:
    assert database.read_now(lambda snapshot: snapshot.one("SELECT 1 WHERE false")) is None
    with pytest.raises(StatementFailed):
        database.read_now(lambda snapshot: snapshot.one("SELECT * FROM (VALUES (1), (2)) v"))


def test_parameters_are_made_storable_and_bytes_stay_bytes(database: Database) -> None:
    params: Sequence[Any] = ("a\x00", ["b\x00", "c"], b"\x00\x01", [])
    assert database.read_now(lambda s: s.one("SELECT %s::text, %s::text[], %s::bytea, %s::text[]", params)) == (
        "a\x010",
        ["b\x010", "c"],
        b"\x00\x01",
        [],
    )


def test_a_write_is_one_transaction_on_disk(database: Database, writer: WriteConnection) -> None:
    def fn(transaction: Any) -> Any:
        transaction.execute("INSERT INTO g1.positions VALUES ('a', 1)")
        return transaction.one("SHOW synchronous_commit")

    assert database.write_now(fn) == ("on",)

    def fail(transaction: Any) -> None:
        transaction.execute("INSERT INTO g1.positions VALUES ('b', 1)")
        raise KeyError("mine")

    with pytest.raises(KeyError):
        database.write_now(fail)
    for _ in range(2):
        database.read_now(lambda snapshot: None)
    assert writer.rows("SELECT topic FROM g1.positions") == [("a",)]


def test_a_write_on_a_connection_that_was_cut_while_idle_happens_once(
    database: Database, writer: WriteConnection
) -> None:
    for _ in range(4):
        database.read_now(lambda snapshot: None)
    terminate_readers(writer)
    for _ in range(4):
        database.write_now(lambda transaction: transaction.execute("INSERT INTO g1.positions VALUES ('a', 1)"))
    assert writer.one("SELECT count(*) FROM g1.positions") == (4,)


def test_a_write_that_loses_its_connection_is_not_repeated(database: Database, writer: WriteConnection) -> None:
    calls: list[int] = []

    def fn(transaction: Any) -> None:
        calls.append(1)
        terminate_readers(writer)
        transaction.execute("INSERT INTO g1.positions VALUES ('a', 1)")

    with pytest.raises(ConnectionLost):
        database.write_now(fn)
    assert calls == [1]


@pytest.mark.usefixtures("own_database")
def test_postgres_coming_back_is_used_again(postgres: PostgresServer, url: str, database: Database) -> None:
    assert database.read_now(lambda snapshot: snapshot.one("SELECT 1")) == (1,)
    postgres.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'annals read'")
    name = database_name(url)
    postgres.admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    with pytest.raises(ConnectionLost):
        database.read_now(lambda snapshot: None)
    postgres.admin(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert database.read_now(lambda snapshot: snapshot.one("SELECT 1")) == (1,)

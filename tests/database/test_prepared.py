"""Statements that are read again and again are planned once a connection, and answer as before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import pytest

from annals.database import prepared
from annals.database.errors import ConnectionLost, StatementFailed
from annals.database.pool import Database
from annals.database.prepared import numbered
from annals.database.snapshot import Snapshot
from annals.database.write_connection import WriteConnection
from tests.support.statements import count_statements

SQL = "SELECT topic, next + %s FROM positions WHERE topic = ANY (%s) AND topic LIKE 'roo%%' ORDER BY topic LIMIT %s"
_numbers = itertools.count()
PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'read!_%' ESCAPE '!'"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    pool = Database(url, threads=1)
    yield pool
    pool.close()


def count_prepared(database: Database) -> int:
    # As other text each time, or it would be prepared itself.
    (row,) = database.read_now(lambda snapshot: snapshot.rows(f"{PREPARED} -- {next(_numbers)}"))
    return int(row[0])


def read(database: Database, *params: object) -> list[tuple[object, ...]]:
    return database.read_now(lambda snapshot: snapshot.rows(SQL, params))


def test_the_third_use_is_prepared_and_all_answer_alike(database: Database, writer: WriteConnection) -> None:
    writer.execute("INSERT INTO positions VALUES ('rooms', 5), ('users', 6), ('roots', 7)")
    with count_statements(database) as sent:
        for use in range(1, 6):
            assert read(database, 1, ["rooms", "users", "roots"], 10) == [("rooms", 6), ("roots", 8)]
            assert count_prepared(database) == (1 if use >= 3 else 0)
    assert [sql for sql in sent.queries if sql == SQL] == [SQL] * 5, "counted as it is written, however it is sent"
    assert read(database, -1, [], 10) == []
    assert read(database, None, ["rooms"], 1) == [("rooms", None)]
    assert read(database, 0, ["x\x00y", "rooms"], None) == [("rooms", 5)]


def test_a_prepared_read_follows_the_serving_generation(database: Database, writer: WriteConnection) -> None:
    writer.execute("INSERT INTO g1.positions VALUES ('rooms', 1)")
    writer.execute("INSERT INTO g2.positions VALUES ('rooms', 2)")
    for _ in range(4):
        assert read(database, 0, ["rooms"], 1) == [("rooms", 1)]
    writer.execute("UPDATE ops.serving SET generation = 'g2'")
    assert read(database, 0, ["rooms"], 1) == [("rooms", 2)]
    assert database.read_now(lambda s: s.rows(SQL, (0, ["rooms"], 1)), generation="g1") == [("rooms", 1)]


def test_a_new_connection_prepares_anew(database: Database, writer: WriteConnection) -> None:
    for _ in range(4):
        read(database, 0, ["rooms"], 1)
    writer.rows("SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity WHERE application_name = 'annals read'")
    for _ in range(4):
        assert read(database, 0, ["rooms"], 1) == []
    assert count_prepared(database) == 1


def test_a_plan_made_for_a_small_table_does_not_outlast_its_growth(database: Database, writer: WriteConnection) -> None:
    sql = """
        SELECT g.value FROM unnest(%s::text[], %s::text[]) AS w(room, name)
        JOIN growing g ON g.room = w.room AND g.name = w.name"""
    insert = "INSERT INTO growing SELECT 'r', 'n' || n, n FROM generate_series({}, {}) AS n"
    writer.execute("CREATE TABLE growing (room text, name text, value bigint, PRIMARY KEY (room, name))")
    try:
        # Nothing but us makes plans anew.
        writer.execute("ALTER TABLE growing SET (autovacuum_enabled = false)")
        writer.execute(insert.format(1, 5))
        writer.execute("ANALYZE growing")

        def plan() -> str:
            explain = f"EXPLAIN EXECUTE read_0('{{}}', '{{}}') -- {next(_numbers)}"
            return " ".join(line for (line,) in database.read_now(lambda snapshot: snapshot.rows(explain)))

        def use() -> None:
            found = database.read_now(lambda snapshot: snapshot.rows(sql, (["r", "r"], ["n3", "x"])))
            assert found == [(3,)]

        for _ in range(3):
            use()
        writer.execute(insert.format(6, 5_000))
        for _ in range(200):
            use()
        assert "Index Cond: ((room = w.room) AND (name = w.name))" in plan()
    finally:
        writer.execute("DROP TABLE growing")


def test_a_failing_statement_fails_as_ever(database: Database) -> None:
    def fail(snapshot: Snapshot) -> None:
        snapshot.rows("SELECT 1 / %s", (0,))

    for _ in range(4):
        with pytest.raises(StatementFailed):
            database.read_now(fail)
    assert read(database, 0, ["rooms"], 1) == []


def test_statements_beyond_the_bound_are_not_prepared(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "PREPARED_MAX", 2)
    for number in range(4):
        for _ in range(4):
            sql = f"SELECT {number} + %s"
            assert database.read_now(partial(Snapshot.one, sql=sql, params=(1,))) == (number + 1,)
    assert count_prepared(database) == 2


def test_marks_are_numbered_and_percent_signs_kept() -> None:
    assert numbered("SELECT %s, '100%%', %s", 2) == "SELECT $1, '100%', $2"
    assert numbered("SELECT '100%'", 0) == "SELECT '100%'"
    with pytest.raises(ValueError, match="1 marks for 2 parameters"):
        numbered("SELECT %s", 2)


def test_a_lost_connection_is_told_as_one(database: Database, writer: WriteConnection) -> None:
    def lose(snapshot: Snapshot) -> None:
        (row,) = snapshot.rows("SELECT pg_backend_pid()")
        writer.rows("SELECT pg_terminate_backend(%s, 300000)", (row[0],))
        snapshot.rows(SQL, (0, ["rooms"], 1))

    with pytest.raises(ConnectionLost):
        database.read_now(lose)

"""The writer's connection: transactions are the caller's, a loss is said plainly."""

from __future__ import annotations

from io import BytesIO

import pytest

from annals.database.errors import ConnectionLost, StatementFailed, StatementTimeout
from annals.database.write_connection import WriteConnection
from tests.support.statements import count_statements


def test_its_settings(url: str, writer: WriteConnection) -> None:
    assert writer.one("SHOW synchronous_commit") == ("off",)
    assert writer.one("SELECT current_schema()") == ("g1",)
    durable = WriteConnection(url, synchronous_commit=True)
    assert durable.one("SHOW synchronous_commit") == ("on",)
    durable.close()


def test_many_statements_in_one_round_trip(writer: WriteConnection) -> None:
    with count_statements(writer) as sent:
        rows = writer.execute_many_in_one(
            [
                "BEGIN",
                ("INSERT INTO positions VALUES (%s, %s)", ("a%\x00", 1)),
                ("UPDATE positions SET next = %s WHERE topic LIKE 'a%%' RETURNING topic, next", (2,)),
            ]
        )
    assert rows == [("a%\x010", 2)]
    assert len(sent.all) == 1
    assert writer.execute_many_in_one([]) == []
    assert writer.in_transaction
    assert writer.execute_many_in_one(["COMMIT"]) == []
    assert writer.rows("SELECT * FROM positions") == [("a%\x010", 2)]


def test_without_begin_they_are_one_transaction(writer: WriteConnection) -> None:
    with pytest.raises(StatementFailed):
        writer.execute_many_in_one(["INSERT INTO positions VALUES ('a', 1)", "SELECT nonsense"])
    assert writer.rows("SELECT * FROM positions") == []


def test_touched_rows_are_counted(writer: WriteConnection) -> None:
    writer.execute("INSERT INTO positions VALUES ('a', 1), ('b', 2)")
    assert writer.execute("UPDATE positions SET next = 3 WHERE next = %s", (1,)) == 1
    assert writer.execute("UPDATE positions SET next = 3 WHERE next = %s", (1,)) == 0


def test_a_commit_after_a_failure_is_not_taken_for_one(writer: WriteConnection) -> None:
    writer.begin()
    writer.execute("INSERT INTO positions VALUES ('a', 1)")
    with pytest.raises(StatementFailed):
        writer.execute("SELECT nonsense")
    with pytest.raises(StatementFailed):
        writer.commit()
    assert writer.rows("SELECT * FROM positions") == []


def test_a_rollback_undoes_and_may_come_twice(writer: WriteConnection) -> None:
    writer.begin()
    writer.execute("INSERT INTO positions VALUES ('a', 1)")
    writer.rollback()
    writer.rollback()
    assert writer.rows("SELECT * FROM positions") == []


def test_a_backend_that_is_ended_by_another_is_lost(url: str, writer: WriteConnection) -> None:
    other = WriteConnection(url, "g1")
    writer.begin()
    writer.execute("INSERT INTO positions VALUES ('a', 1)")
    pid, backend_start = writer.backend()
    assert other.rows(
        "SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity"
        " WHERE pid = %s AND backend_start = %s::timestamptz",
        (pid, backend_start),
    ) == [(True,)]
    with pytest.raises(ConnectionLost):
        writer.execute("SELECT 1")
    for use in (writer.begin, writer.commit, writer.rollback, writer.backend):
        with pytest.raises(ConnectionLost):
            use()
    with pytest.raises(ConnectionLost):
        writer.copy_in("COPY positions FROM STDIN", BytesIO(b"a\t1\n"))
    with pytest.raises(ConnectionLost):
        writer.execute_many_in_one([("SELECT %s", (1,))])
    assert other.rows("SELECT * FROM positions") == []
    other.close()


def test_a_lock_that_another_holds_is_waited_for_so_long(url: str, writer: WriteConnection) -> None:
    writer.begin()
    writer.execute("LOCK TABLE positions")
    other = WriteConnection(url, "g1", lock_timeout_ms=20)
    with pytest.raises(StatementTimeout):
        other.execute("INSERT INTO positions VALUES ('a', 1)")
    other.close()


def test_nobody_there() -> None:
    with pytest.raises(ConnectionLost):
        WriteConnection("postgresql://annals@127.0.0.1:1/none")


def test_check_notices_that_the_server_ended_the_connection(database_url: str) -> None:
    connection = WriteConnection(database_url)
    connection.check()
    pid, _ = connection.backend()
    connection.check()
    other = WriteConnection(database_url)
    other.rows("SELECT pg_terminate_backend(%s, 300000)", (pid,))
    other.close()
    with pytest.raises(ConnectionLost):
        connection.check()
    with pytest.raises(ConnectionLost):
        connection.check()

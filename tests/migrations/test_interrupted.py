"""Killed, blocked, beside another, or met by tables of a newer release: a migration goes on, waits, or says so."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from annals.database import migrate as migrate_module
from annals.database.errors import MigrationBlocked, StatementTimeout, UnknownRevision, UnsupportedServer
from annals.database.migrate import create_generation, drop_generation, migrate
from annals.database.write_connection import WriteConnection
from tests.support import nursery
from tests.support.patience import PATIENCE_S
from tests.support.revision_chains import make_chain, write_revision
from tests.support.waiting import until

# Revisions wait here for the test, in the middle of what they do.
_GATE, _LATER_GATE = 4711, 4712
_WAIT = "SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock_shared"
_MAKE = (
    "CREATE TABLE notes (n bigint PRIMARY KEY, text text); INSERT INTO notes SELECT i, i FROM generate_series(1, 50) i"
)
_CHAIN = {
    "0001": _MAKE,
    "0002": "ALTER TABLE notes ADD done boolean; UPDATE notes SET text = text || '!';"
    f" {_WAIT}({_GATE}); UPDATE notes SET done = true",
    "0003": f"{_WAIT}({_LATER_GATE}); ALTER TABLE notes ALTER done SET NOT NULL",
}
_RUN = (
    "import sys; from annals.database import migrate as m; m.CHAINS['generation'] = sys.argv[1]; m.migrate(sys.argv[2])"
)
_WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database AND d.datname = current_database()"
    " WHERE locktype = 'advisory' AND NOT granted AND (classid::bigint << 32) | objid::bigint = %s"
)
_TURN = migrate_module._ADVISORY_LOCK


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three revisions in place of the chain of generations; the second one changes rows."""
    made = make_chain(tmp_path / "chain", _CHAIN)
    monkeypatch.setitem(migrate_module.CHAINS, "generation", str(made))
    return made


@pytest.fixture
def gate(database_url: str) -> Iterator[psycopg2.extensions.connection]:
    """Held from the start."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    execute(connection, f"SELECT pg_advisory_lock({_GATE})")
    yield connection
    connection.close()


@pytest.fixture
def started(chain: Path, database_url: str) -> Iterator[Callable[[], nursery.Command]]:
    """Starts a process that migrates."""
    processes: list[nursery.Command] = []

    def start() -> nursery.Command:
        program = ("-c", _RUN, str(chain), database_url)
        with (chain.parent / "said").open("ab") as output:
            processes.append(nursery.begin(*program, environment=os.environ, output=output))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def execute(connection: psycopg2.extensions.connection, sql: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def waiting(connection: psycopg2.extensions.connection, lock: int = _GATE) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, (lock,))
        return bool(cursor.fetchone() != (0,))


def read(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = WriteConnection(url)
    try:
        return connection.rows(sql)
    finally:
        connection.close()


def at_head(url: str) -> None:
    """Every revision ran, once."""
    assert read(url, "SELECT version_num FROM g1.alembic_version") == [("0003",)]
    assert read(url, "SELECT text, done FROM g1.notes ORDER BY n") == [(f"{n}!", True) for n in range(1, 51)]
    assert read(url, "SELECT generation FROM ops.serving") == [("g1",)]


def test_killed_inside_a_revision_and_between_two_it_goes_on(
    started: Callable[[], nursery.Command], gate: psycopg2.extensions.connection, database_url: str
) -> None:
    process = started()
    until(lambda: waiting(gate), "0002 is half done")
    process.kill()
    process.wait()
    # What it has left open ends without anybody's help: the gate stays shut.
    until(lambda: not waiting(gate), "PostgreSQL ends what nobody waits for")
    assert read(database_url, "SELECT version_num FROM g1.alembic_version") == [("0001",)]
    assert read(database_url, "SELECT DISTINCT text LIKE '%!' FROM g1.notes") == [(False,)]

    process = started()
    until(lambda: waiting(gate), "0002 is half done again")
    execute(gate, f"SELECT pg_advisory_lock({_LATER_GATE}), pg_advisory_unlock({_GATE})")
    until(lambda: waiting(gate, _LATER_GATE), "0002 is done, 0003 has done nothing yet")
    process.kill()
    process.wait()
    until(lambda: not waiting(gate, _LATER_GATE), "PostgreSQL ends this one too")
    assert read(database_url, "SELECT version_num FROM g1.alembic_version") == [("0002",)]
    execute(gate, f"SELECT pg_advisory_unlock({_LATER_GATE})")
    assert migrate(database_url) == "g1"
    at_head(database_url)


def test_of_two_at_once_one_waits(
    started: Callable[[], nursery.Command], gate: psycopg2.extensions.connection, database_url: str
) -> None:
    first = started()
    until(lambda: waiting(gate), "the first is in 0002")
    second = started()
    until(lambda: waiting(gate, _TURN), "the second waits for its turn")
    execute(gate, f"SELECT pg_advisory_unlock({_GATE})")
    assert (first.wait(PATIENCE_S), second.wait(PATIENCE_S)) == (0, 0)
    at_head(database_url)


def test_who_waits_for_its_turn_in_vain_is_told_whose_it_is(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "_WAIT_FOR_OTHERS_MS", 50)
    with migrate_module._locked(database_url) as other:
        pid = other.info.backend_pid
        with pytest.raises(MigrationBlocked, match=rf"pid {pid} \(annals migrate, .*start again"):
            migrate(database_url)
    # A connection that was closed ends in its own time.
    monkeypatch.setattr(migrate_module, "_WAIT_FOR_OTHERS_MS", int(PATIENCE_S * 1000))
    assert migrate(database_url) == "g1"


@pytest.fixture
def blocked_0002(chain: Path, database_url: str) -> Iterator[psycopg2.extensions.connection]:
    """At 0001, with a reader whose transaction stays open."""
    create = WriteConnection(database_url)
    create.execute("CREATE SCHEMA g1")
    create.close()
    migrate_module.upgrade(database_url, "generation", "g1", "0001")
    reader = psycopg2.connect(database_url, application_name="a long report")
    execute(reader, "SELECT count(*) FROM g1.notes")
    yield reader
    reader.close()


def test_a_long_reader_is_named_and_nothing_is_lost(
    blocked_0002: psycopg2.extensions.connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUT_MS", 2_000)
    monkeypatch.setattr(migrate_module, "_PAUSES_S", ())
    named = rf"migration of g1 .* pid {blocked_0002.info.backend_pid} \(a long report, user annals, idle in transaction"
    with pytest.raises(MigrationBlocked, match=named):
        migrate(database_url)
    assert read(database_url, "SELECT version_num FROM g1.alembic_version") == [("0001",)]
    blocked_0002.rollback()
    assert migrate(database_url) == "g1"
    at_head(database_url)


def test_it_is_tried_again_by_itself(
    blocked_0002: psycopg2.extensions.connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(migrate_module, "_PAUSES_S", (7.0, 7.0))
    slept: list[float] = []
    here = threading.get_ident()

    def sleep(seconds: float) -> None:
        # The function is everybody's: threads that other tests left behind sleep too.
        if threading.get_ident() != here:
            return
        slept.append(seconds)
        if len(slept) == 2:
            blocked_0002.rollback()

    monkeypatch.setattr("annals.database.migrate.time.sleep", sleep)
    assert migrate(database_url) == "g1"
    assert slept == [7.0, 7.0]
    at_head(database_url)


def test_a_generation_that_somebody_reads_is_not_dropped_from_under_them(
    chain: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUT_MS", 2_000)
    migrate(database_url)
    create_generation(database_url, "g2")
    reader = psycopg2.connect(database_url)
    execute(reader, "SELECT count(*) FROM g2.notes")
    with pytest.raises(MigrationBlocked, match=rf"dropping g2 waited 2 s .* pid {reader.info.backend_pid} "):
        drop_generation(database_url, "g2")
    reader.rollback()
    reader.close()
    drop_generation(database_url, "g2")


def test_a_statement_has_its_time_and_a_revision_may_lift_it_for_itself(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The two that sleep differ in nothing but that one of them lifts the limit.
    lifted = "SET LOCAL statement_timeout = 0; SELECT pg_sleep(2.5)"
    chain = make_chain(tmp_path / "chain", {"0001": lifted, "0002": "SELECT pg_sleep(2.5)"})
    monkeypatch.setitem(migrate_module.CHAINS, "generation", str(chain))
    migrate_module._make_schema(psycopg2_autocommit(database_url), "g1")
    monkeypatch.setattr(migrate_module, "_STATEMENT_TIMEOUT_MS", 2_000)
    with pytest.raises(StatementTimeout, match="statement timeout"):
        migrate_module.upgrade(database_url, "generation", "g1")
    assert read(database_url, "SELECT version_num FROM g1.alembic_version") == [("0001",)]


def psycopg2_autocommit(url: str) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection


def test_tables_of_a_newer_release_are_refused(chain: Path, database_url: str) -> None:
    migrate(database_url)
    newer = write_revision(chain, "0004", "0003", "CREATE TABLE later (n int)")
    migrate(database_url)
    newer.unlink()
    said = "schema g1 are at revision 0004, this release knows up to 0003: a newer release"
    with pytest.raises(UnknownRevision, match=said):
        migrate(database_url)
    # The older release made no change, and the newer one goes on.
    assert read(database_url, "SELECT version_num FROM g1.alembic_version") == [("0004",)]
    assert read(database_url, "SELECT count(*) FROM g1.later") == [(0,)]


def test_an_older_postgresql_is_refused_with_words(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fourteen(psycopg2.extensions.connection):
        server_version = 14_00_12

    def connect(*arguments: Any, **more: Any) -> psycopg2.extensions.connection:
        connection = Fourteen(database_url)
        connection.autocommit = True
        return connection

    monkeypatch.setattr(migrate_module, "connect", connect)
    with pytest.raises(UnsupportedServer, match=r"PostgreSQL 15 or later is needed, this is 14\.12"):
        migrate(database_url)
    assert read(database_url, "SELECT count(*) FROM pg_namespace WHERE nspname IN ('ops', 'g1')") == [(0,)]

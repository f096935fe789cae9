"""Running the migrations: schema `ops`, then the schema of a generation.

Safe to run at every start, by several processes at once and after a run that was killed: an advisory lock lets one
through, each revision is a transaction, and what is there already is left alone. A revision that meets a table in use
gives up its place in the queue for it soon, since all who come later wait behind it, and tries again a little later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
import psycopg2.extensions
from psycopg2 import errors as postgres_errors

from annals.database.blockers import blocked, blockers_named, holding
from annals.database.chain_files import last_revision
from annals.database.connection import close_quietly, connect
from annals.database.errors import (
    GenerationServes,
    MigrationBlocked,
    UnsupportedServer,
    translated,
)
from annals.database.generation import FIRST_GENERATION, checked_generation

OLDEST_SERVER = 15_00_00
# Any number that nobody else in this database uses; ASCII "annals".
_ADVISORY_LOCK = 0x616E6E616C73
_WAIT_FOR_OTHERS_MS = 120_000
# A table that somebody reads is waited for this long, as everybody behind us in its queue waits too.
_LOCK_TIMEOUT_MS = 5_000
# After so long it is tried again, and then no more.
_PAUSES_S = (1.0, 3.0, 9.0)
# A revision that rewrites much data lifts it for itself: SET LOCAL statement_timeout = 0.
_STATEMENT_TIMEOUT_MS = 600_000
# Where Alembic finds the chains: data, so that this folder imports nothing above it.
CHAINS = {"generation": "annals.migrations:generation", "ops": "annals.migrations:ops"}

_log = logging.getLogger(__name__)


def migrate(url: str, generation: str | None = None) -> str:
    """Bring `ops` and a generation up to date, making what is missing; returns the generation.

    Without a name it is the generation that serves, or g1 in a new database. In a new database it then serves.
    """
    with _locked(url) as connection:
        _run_ops(url, connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT generation FROM ops.serving")
            row = cursor.fetchone()
        name = checked_generation(generation or (row[0] if row else FIRST_GENERATION))
        _run_generation(url, connection, name)
        if row is None:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO ops.serving (generation) VALUES (%s)", (name,))
    return name


def create_generation(url: str, name: str) -> None:
    """Make the schema and tables of a generation beside the others, or bring them up to date; it does not serve."""
    checked_generation(name)
    with _locked(url) as connection:
        _run_ops(url, connection)
        _run_generation(url, connection, name)


def drop_generation(url: str, name: str) -> None:
    """Drop a generation's schema and all in it, if it is there; GenerationServes if readers use it."""
    checked_generation(name)
    with _locked(url) as connection, connection.cursor() as cursor:
        _run_ops(url, connection)
        cursor.execute("SELECT generation FROM ops.serving")
        if cursor.fetchone() == (name,):
            raise GenerationServes(f"{name} serves: switch to another generation first")
        with blockers_named(url, connection.info.backend_pid, f"dropping {name}", _LOCK_TIMEOUT_MS):
            cursor.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def generations(url: str) -> list[str]:
    """The generations whose schemas are there, in the order of their numbers."""
    connection = connect(url, purpose="migrate", statement_timeout_ms=_STATEMENT_TIMEOUT_MS)
    try:
        with connection.cursor() as cursor:
            cursor.execute(r"SELECT nspname FROM pg_namespace WHERE nspname ~ '^g[1-9][0-9]{0,8}$'")
            return sorted((row[0] for row in cursor.fetchall()), key=lambda name: int(name[1:]))
    except psycopg2.Error as error:
        raise translated(error, connection) from error
    finally:
        close_quietly(connection)


@contextmanager
def _locked(url: str) -> Iterator[psycopg2.extensions.connection]:
    """A connection that holds the lock on migrating; closing it lets go, however we end."""
    connection = connect(url, purpose="migrate", lock_timeout_ms=_WAIT_FOR_OTHERS_MS)
    try:
        if connection.server_version < OLDEST_SERVER:
            major, minor = divmod(connection.server_version, 10_000)
            raise UnsupportedServer(f"PostgreSQL {OLDEST_SERVER // 10_000} or later is needed, this is {major}.{minor}")
        with connection.cursor() as cursor:
            _take_turn(connection, cursor)
            cursor.execute(f"SET lock_timeout = {_LOCK_TIMEOUT_MS}; SET statement_timeout = {_STATEMENT_TIMEOUT_MS}")
        yield connection
    except psycopg2.Error as error:
        raise translated(error, connection) from error
    finally:
        close_quietly(connection)


def _take_turn(connection: psycopg2.extensions.connection, cursor: psycopg2.extensions.cursor) -> None:
    try:
        cursor.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
    except postgres_errors.LockNotAvailable as error:
        others = holding(connection, _ADVISORY_LOCK)
        raise blocked("a migration", _WAIT_FOR_OTHERS_MS, others) from error


def _run_ops(url: str, connection: psycopg2.extensions.connection) -> None:
    _bring_up(url, connection, "ops", "ops")


def _run_generation(url: str, connection: psycopg2.extensions.connection, name: str) -> None:
    _bring_up(url, connection, "generation", name)


def _bring_up(url: str, connection: psycopg2.extensions.connection, chain: str, schema: str) -> None:
    if not _is_up(connection, chain, schema):
        _make_schema(connection, schema)
        _upgrade_patiently(url, chain, schema)


def _make_schema(connection: psycopg2.extensions.connection, schema: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")


def _is_up(connection: psycopg2.extensions.connection, chain: str, schema: str) -> bool:
    """Whether a chain has been run to its end, by Alembic's own table. What somebody locks is left to Alembic's run."""
    with connection.cursor() as cursor, suppress(postgres_errors.LockNotAvailable):
        cursor.execute("SELECT to_regclass(%s)", (f"{schema}.alembic_version",))
        if cursor.fetchone() == (None,):
            return False
        cursor.execute(f"SELECT version_num FROM {schema}.alembic_version")
        return bool(cursor.fetchall() == [(last_revision(CHAINS[chain]),)])
    return False


def _upgrade_patiently(url: str, chain: str, schema: str) -> None:
    for pause_s in _PAUSES_S:
        try:
            return upgrade(url, chain, schema)
        except MigrationBlocked as error:
            _log.warning("%s (tried again in %g s)", error, pause_s)
            time.sleep(pause_s)
    return upgrade(url, chain, schema)


def upgrade(url: str, chain: str, schema: str, revision: str = "head") -> None:
    """Run one chain up to a revision, with `schema` (there, and checked by the caller) as the search path.

    Raises UnknownRevision where a newer release has been, MigrationBlocked where somebody holds a table: the revisions
    before the one that waited are done then.
    """
    # Alembic and SQLAlchemy take most of the time of a start that has nothing to migrate.
    from annals.database.chain_runs import run_chain

    run_chain(
        *(url, CHAINS[chain], schema, revision),
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
        lock_timeout_ms=_LOCK_TIMEOUT_MS,
    )

"""Running a chain of migrations: Alembic on a connection whose search path is the chain's schema."""

from __future__ import annotations

from contextlib import suppress

import psycopg2
import psycopg2.extensions
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.pool import NullPool

from annals.database.blockers import blockers_named
from annals.database.connection import connect
from annals.database.errors import UnknownRevision, understood

# What a migration that was killed has begun, PostgreSQL ends within this.
_CLIENT_CHECK_MS = 1_000


def run_chain(
    url: str, place: str, schema: str, revision: str, *, statement_timeout_ms: int, lock_timeout_ms: int
) -> None:
    """Run the chain in `place` (as Alembic names folders) up to a revision, each a transaction of its own.

    Raises UnknownRevision, or MigrationBlocked.
    """
    config = Config()
    config.set_main_option("script_location", place)
    engine = schema_engine(url, schema, statement_timeout_ms=statement_timeout_ms, lock_timeout_ms=lock_timeout_ms)
    try:
        with engine.connect() as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            _check_known(connection, ScriptDirectory.from_config(config), schema)
            config.attributes["connection"] = connection
            with blockers_named(url, pid, f"a migration of {schema}", lock_timeout_ms):
                command.upgrade(config, revision)
            # Alembic's own transactions are done; what it read after the last one needs no end but this.
            connection.rollback()
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg2.Error):
            raise understood(error.orig, lost=error.connection_invalidated) from error
        raise
    finally:
        engine.dispose()


def _check_known(connection: sqlalchemy.Connection, scripts: ScriptDirectory, schema: str) -> None:
    for revision in _passed(connection):
        try:
            scripts.get_revision(revision)
        except CommandError as error:
            raise UnknownRevision(
                f"the tables in schema {schema} are at revision {revision}, this release knows up to "
                f"{scripts.get_current_head()}: a newer release has migrated them, run that one or a later one"
            ) from error
    # Alembic makes each revision a transaction of its own only where none is open.
    connection.rollback()


def _passed(connection: sqlalchemy.Connection) -> list[str]:
    """The revision that the tables are at, as a list; empty where there are none yet."""
    if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar_one() is None:
        return []
    return list(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())


def schema_engine(
    url: str, schema: str, *, statement_timeout_ms: int = 0, lock_timeout_ms: int = 0
) -> sqlalchemy.Engine:
    """An SQLAlchemy engine whose unqualified tables are those of a schema; time-outs as those of `connect`."""

    def make() -> psycopg2.extensions.connection:
        connection = connect(
            url, purpose="migrate", statement_timeout_ms=statement_timeout_ms, lock_timeout_ms=lock_timeout_ms
        )
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path = {schema}")
            # Where the server's system cannot tell, it refuses the setting.
            with suppress(psycopg2.Error):
                cursor.execute(f"SET client_connection_check_interval = {_CLIENT_CHECK_MS}")
        # SQLAlchemy counts on psycopg2's own transactions.
        connection.autocommit = False
        return connection

    return sqlalchemy.create_engine("postgresql+psycopg2://", creator=make, poolclass=NullPool)

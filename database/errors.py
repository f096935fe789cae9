"""What can go wrong between us and PostgreSQL.

    DatabaseError
    ├── Unavailable              nothing is wrong with the request: answer 503, try again
    │   ├── DatabaseBusy         too many reads wait already
    │   ├── ConnectionLost       the connection broke, or none can be made
    │   ├── StatementTimeout     a statement ran into its time limit
    │   │   └── MigrationBlocked a migration waited for somebody else in vain
    │   ├── TablesBehind         the tables have less than this process has seen in them before
    │   └── DatabaseClosed       the pool is closed, or closing
    ├── NotMigrated              schema `ops` or the serving generation is not there
    ├── UnknownRevision          the tables were migrated by a newer release
    ├── UnsupportedServer        PostgreSQL is too old
    ├── BadGenerationName        not g1, g2, ...
    ├── GenerationServes         the serving generation must not be dropped
    ├── SnapshotClosed           a snapshot was used after its read ended
    ├── BadRow                   a row or key does not fit its table
    └── StatementFailed          PostgreSQL refused a statement (`sqlstate` says why)

Folders above catch these: none of them needs psycopg2.
"""

from __future__ import annotations

import psycopg2
from psycopg2 import errors as postgres_errors


class DatabaseError(Exception):
    """Any failure of database/."""


class Unavailable(DatabaseError):
    """The database cannot answer now; the same request may succeed later."""


class DatabaseBusy(Unavailable):
    """More reads wait than the pool admits."""


class ConnectionLost(Unavailable):
    """The connection is gone: what was not committed did not happen, what was being committed may have."""


class StatementTimeout(Unavailable):
    """A statement, or its wait for a lock, took longer than allowed."""


class MigrationBlocked(StatementTimeout):
    """Somebody else holds what a migration waits for; the message says who. It can be run again as it is."""


class TablesBehind(Unavailable):
    """The tables were set back (a crash of PostgreSQL, a rebuild): they will be here again, nothing is lost."""


class DatabaseClosed(Unavailable):
    """The pool was closed."""


class NotMigrated(DatabaseError):
    """A schema that must exist does not: run the migrations."""


class UnknownRevision(DatabaseError):
    """The tables are at a revision that this release does not have."""


class UnsupportedServer(DatabaseError):
    """The server is older than the oldest PostgreSQL that we support."""


class BadGenerationName(DatabaseError):
    """A generation is called g1, g2, ...: anything else never reaches SQL."""


class GenerationServes(DatabaseError):
    """The generation that answers readers cannot be dropped."""


class SnapshotClosed(DatabaseError):
    """A snapshot ends with the function that was given it."""


class BadRow(DatabaseError):
    """Columns that the table does not have, a key that is not its primary key, a key inserted twice."""


class StatementFailed(DatabaseError):
    """PostgreSQL refused a statement; `sqlstate` is its five-character code, empty where there is none."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


# Class 08: connection exceptions. 57P01 to 57P05: the backend was told to end (admin shutdown, crash, starting up,
# database dropped, idle session).
_LOST_PREFIXES = ("08", "57P0")


def is_connection_lost(error: psycopg2.Error, connection: psycopg2.extensions.connection | None) -> bool:
    """Whether the connection that raised this can be used no more."""
    if connection is None or connection.closed:
        return True
    return (error.pgcode or "").startswith(_LOST_PREFIXES)


def translated(error: psycopg2.Error, connection: psycopg2.extensions.connection | None) -> DatabaseError:
    """Our exception for one of psycopg2's, raised on this connection (None: it could not be made)."""
    return understood(error, lost=is_connection_lost(error, connection))


def understood(error: psycopg2.Error, *, lost: bool) -> DatabaseError:
    """Our exception for one of psycopg2's, by who knows whether the connection is lost."""
    message = str(error).strip() or type(error).__name__
    if lost:
        return ConnectionLost(message)
    # Also raised by pg_cancel_backend, which an operator uses for the same reason.
    if isinstance(error, postgres_errors.QueryCanceled | postgres_errors.LockNotAvailable):
        return StatementTimeout(message)
    return StatementFailed(message, error.pgcode or "")

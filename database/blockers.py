"""Who holds what a migration waits for.

PostgreSQL says no more than that a wait for a lock took too long, and once it has said so the wait is over. So a
thread looks while the statement waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
import psycopg2.extensions
from psycopg2 import errors as postgres_errors

from annals.database.connection import close_quietly, connect
from annals.database.errors import DatabaseError, MigrationBlocked

# Looks in the time that a statement may wait for a lock.
_LOOKS = 10

_SESSION = """
    a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'), coalesce(a.usename, '?'), coalesce(a.state, '?'),
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::bigint
    FROM pg_stat_activity a
"""
_BLOCKING = f"SELECT {_SESSION} WHERE a.pid = ANY (pg_blocking_pids(%s)) ORDER BY a.xact_start"
_HOLDING = f"""
    SELECT {_SESSION} WHERE a.pid IN (
        SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32) | objid::bigint = %s
    )
"""


def blocking(connection: psycopg2.extensions.connection, pid: int) -> list[str]:
    """The sessions that the backend `pid` waits for now, a phrase each, the oldest transaction first."""
    return _said(connection, _BLOCKING, pid)


def holding(connection: psycopg2.extensions.connection, advisory_lock: int) -> list[str]:
    """The session that holds an advisory lock of this database, as a phrase; empty if nobody does."""
    return _said(connection, _HOLDING, advisory_lock)


def _said(connection: psycopg2.extensions.connection, sql: str, argument: int) -> list[str]:
    # Not what they run: queries hold what people said.
    with connection.cursor() as cursor:
        cursor.execute(sql, (argument,))
        return [
            f"pid {pid} ({name}, user {user}, {state}, transaction of {age_s} s)"
            for pid, name, user, state, age_s in cursor.fetchall()
        ]


@contextmanager
def blockers_named(url: str, pid: int, doing: str, lock_timeout_ms: int) -> Iterator[None]:
    """While the backend `pid` does something: a wait for a lock that ends in vain raises MigrationBlocked."""
    watch = _Watch(url, pid, lock_timeout_ms / 1000 / _LOOKS)
    watch.start()
    try:
        yield
    except Exception as error:
        # SQLAlchemy's errors name psycopg2's so.
        if not isinstance(getattr(error, "orig", error), postgres_errors.LockNotAvailable):
            raise
        raise blocked(doing, lock_timeout_ms, watch.seen) from error
    finally:
        watch.stop()


def blocked(doing: str, waited_ms: int, by: list[str]) -> MigrationBlocked:
    """The exception for a wait that was in vain."""
    who = ", ".join(by) or "a session that has ended meanwhile"
    return MigrationBlocked(
        f"{doing} waited {waited_ms / 1000:g} s for what is held by {who}: let it end, or end it with "
        "pg_terminate_backend(pid), and start again; the step that waited has changed nothing"
    )


class _Watch(threading.Thread):
    """Looks again and again whom a backend waits for; `seen` is what the last look that found somebody found."""

    def __init__(self, url: str, pid: int, every_s: float) -> None:
        super().__init__(name="migration blockers", daemon=True)
        self.seen: list[str] = []
        self._url, self._pid, self._every_s = url, pid, every_s
        self._ended = threading.Event()

    def run(self) -> None:
        connection = None
        # It only tells: that it cannot is no reason to fail.
        with suppress(psycopg2.Error, DatabaseError):
            # Most migrations are done before the first look, which alone makes the connection.
            while not self._ended.wait(self._every_s):
                connection = connection or connect(self._url, purpose="migrate watch", statement_timeout_ms=5_000)
                self.seen = blocking(connection, self._pid) or self.seen
        close_quietly(connection)

    def stop(self) -> None:
        self._ended.set()
        self.join()

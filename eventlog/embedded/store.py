"""The file: its schema, its connections, and what SQLite's errors mean to callers.

One table a partition, so that every insert is at a right edge: pages fill up, and one topic's records lie together.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from annals.eventlog.embedded.lock import WriterLock
from annals.eventlog.errors import LogClosed, LogCorrupt, LogError, LogUnavailable

_APPLICATION_ID = 0x416E4C67  # "AnLg"
_FORMAT = 1
# Measured at 1 KiB a record: 8 KiB pages read and write faster than 4 KiB, and commit one record as fast.
_PAGE_BYTES = 8192
_SCHEMA = """
CREATE TABLE log (log_id TEXT NOT NULL);
CREATE TABLE topics (
    name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, compacted INTEGER NOT NULL,
    retention_ms INTEGER, delete_retention_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    UNIQUE (topic, partition));
"""


def create_partition(connection: sqlite3.Connection, topic: str, partition: int) -> None:
    """Makes the table of a partition. `at_ms` is when the log took the record: retention goes by it."""
    row = connection.execute(
        "INSERT INTO partitions (topic, partition, next_offset) VALUES (?, ?, 0) RETURNING id", (topic, partition)
    ).fetchall()
    connection.execute(
        f"CREATE TABLE {table_of(row[0][0])}"
        " (offset INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, key BLOB NOT NULL, value BLOB)"
    )


def table_of(partition_id: int) -> str:
    return f"records_{partition_id:d}"


@contextmanager
def translated() -> Iterator[None]:
    """SQLite's errors as the log's."""
    try:
        yield
    except sqlite3.Error as error:
        raise meaning_of(error) from error


def meaning_of(error: sqlite3.Error) -> LogError:
    code = getattr(error, "sqlite_errorcode", None)
    damaged = code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return (LogCorrupt if damaged else LogUnavailable)(f"{error} ({getattr(error, 'sqlite_errorname', 'no code')})")


class Store:
    """Connections to one file. `reading()` from any thread; a connection is used by one thread at a time."""

    def __init__(self, path: Path, lock: WriterLock, new_id: str | None = None) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._all: set[sqlite3.Connection] = set()
        self._closed = False
        with translated(), lock.held():
            _refuse_half_a_page(path)
            connection = self.connect()
            try:
                _prepare(connection, new_id or secrets.token_hex(16))
                self.log_id = _checked(connection)
            except BaseException:
                self.release(connection)
                raise
        self._idle.append(connection)

    def connect(self) -> sqlite3.Connection:
        """A connection of the caller's own: `release` it."""
        if self._closed:
            raise LogClosed("the log is closed")
        # Within the writer's lock nobody is busy; the time-out is for the moments of recovery and last close.
        connection = sqlite3.connect(
            self._path, timeout=10, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        self._all.add(connection)
        if self._path.stat().st_size == 0:
            os.chmod(self._path, 0o600)
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # the checkpointer does it, off the appender's thread
        return connection

    def release(self, connection: sqlite3.Connection) -> None:
        self._all.discard(connection)
        connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for single statements, each fetched whole: no transaction outlives one."""
        try:
            connection = self._idle.pop()
        except IndexError:
            with translated():
                connection = self.connect()
        try:
            with translated():
                yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Closes what no thread is using now; the others are closed when they are given back."""
        self._closed = True
        self._close_idle()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)
        if self._closed:
            self._close_idle()

    def _close_idle(self) -> None:
        with suppress(IndexError):  # another thread may take the last one between
            while True:
                self.release(self._idle.pop())

    def abandon(self) -> None:
        """In a forked child: closing a connection there would break the parent's, so they are kept for ever."""
        self._closed = True
        self._idle = []
        for connection in self._all:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _refuse_half_a_page(path: Path) -> None:
    """SQLite would take the missing part for zeros. Where a write-ahead log stands beside, it has the whole page."""
    wal = path.with_name(path.name + "-wal")
    if path.exists() and path.stat().st_size % _PAGE_BYTES and not (wal.exists() and wal.stat().st_size):
        raise LogCorrupt(f"the file ends in the middle of a page: {path}")


def _prepare(connection: sqlite3.Connection, new_id: str) -> None:
    """Makes the tables, where the file has none: then the log's id is `new_id`."""
    tables, application_id = connection.execute(
        "SELECT (SELECT count(*) FROM sqlite_schema), (SELECT * FROM pragma_application_id)"
    ).fetchall()[0]
    if tables or application_id:
        return
    # Kept in the file's header: needed once. A crash before the commit leaves a file without tables, as here.
    connection.execute("PRAGMA journal_mode = WAL")
    statements = [statement for statement in _SCHEMA.split(";") if statement.strip()]
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(statement)
    connection.execute("INSERT INTO log VALUES (?)", (new_id,))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute("COMMIT")


def _checked(connection: sqlite3.Connection) -> str:
    """The log's id. Raises LogCorrupt for a file that is not ours, or whose edges do not fit together."""
    application_id = connection.execute("PRAGMA application_id").fetchall()[0][0]
    if application_id != _APPLICATION_ID:
        raise LogCorrupt("the file is a database, but not a log")
    version = connection.execute("PRAGMA user_version").fetchall()[0][0]
    if version != _FORMAT:
        raise LogUnavailable(f"the log has format {version}, this release reads {_FORMAT}")
    # A file cut short fails here already: SQLite compares its length with the header.
    ids = connection.execute("SELECT log_id FROM log").fetchall()
    if len(ids) != 1:
        raise LogCorrupt("the log's id is missing")
    for partition_id, topic, partition, end in connection.execute("SELECT * FROM partitions").fetchall():
        last = connection.execute(f"SELECT max(offset) FROM {table_of(partition_id)}").fetchall()[0][0]
        if last is not None and last >= end:
            raise LogCorrupt(f"{topic}[{partition}] has a record at {last}, behind its end {end}")
    return str(ids[0][0])

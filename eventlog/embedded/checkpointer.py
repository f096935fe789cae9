"""Moves committed pages from the write-ahead log into the file, off the appender's thread.

SQLite begins its write-ahead log anew when all of it was moved and no reader stands in it. Readers never stand in it
for long; under steady load the last bit is moved while writers wait, which is short, since most was moved before.
"""

from __future__ import annotations

import sqlite3
import threading

from annals.eventlog.embedded.lock import WriterLock
from annals.eventlog.embedded.store import Store

_EVERY_BYTES = 8 << 20
_PAGES_TO_STOP_WRITERS = 4096  # 32 MiB


class Checkpointer:
    """A thread of each process that writes."""

    def __init__(self, store: Store, lock: WriterLock) -> None:
        self._store, self._lock = store, lock
        self._connection = store.connect()
        self._bytes = 0
        self._due = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-checkpointer", daemon=True)
        self._thread.start()

    def written(self, size_bytes: int) -> None:
        """Counts what the appender wrote. Called by who commits, one thread at a time."""
        # A commit of one record writes at least the pages that it touches.
        self._bytes += max(size_bytes, 16_384)
        if self._bytes >= _EVERY_BYTES:
            self._bytes = 0
            self._due.set()

    def close(self) -> None:
        self._closed = True
        self._due.set()
        self._thread.join()
        self._store.release(self._connection)

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._closed:
                return
            try:
                if self._move() > _PAGES_TO_STOP_WRITERS:
                    with self._lock.held():
                        self._move()
            except sqlite3.Error:
                # A full disk, say: the write-ahead log keeps all that was acknowledged, and the next turn tries again.
                continue

    def _move(self) -> int:
        """Gives the pages that the write-ahead log holds."""
        _busy, pages, _moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
        return int(pages)

"""`api.Log` on a SQLite file, for all processes of one machine."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from annals.eventlog.api import MAX_RECORD_BYTES, Append, Record, TopicPartition
from annals.eventlog.embedded import catalog, compaction
from annals.eventlog.embedded.appender import Appender
from annals.eventlog.embedded.checkpointer import Checkpointer
from annals.eventlog.embedded.commit import Request
from annals.eventlog.embedded.doorbell import Doorbell, Folder, Ringer, interest_in, listeners
from annals.eventlog.embedded.lock import WriterLock
from annals.eventlog.embedded.membership import EmbeddedMembership
from annals.eventlog.embedded.reading import read_ends, read_records
from annals.eventlog.embedded.store import Store, translated
from annals.eventlog.embedded.tail import EmbeddedTail
from annals.eventlog.errors import LogUnavailable, PositionBeyondEnd, RecordTooLarge
from annals.eventlog.limits import Limits
from annals.schemas.topics import TopicSpec

_FILE, _LOCK, _READERS = "log.sqlite3", "log.lock", "readers"


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


def open_embedded(
    directory: Path,
    clock_ms: Callable[[], int] = _wall_clock_ms,
    limits: Limits | None = None,
    new_id: str | None = None,
) -> EmbeddedLog:
    """Opens the log that stands in `directory`, or makes it. Several processes may have it open.

    `clock_ms` stamps what is appended, for retention alone. `new_id` is the id of a log that is made: that of the one
    whose copy it will be (None: a new one). Raises LogCorrupt, LogUnavailable.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = EmbeddedLog(directory.resolve(), clock_ms, limits or Limits(), new_id)
        _sync(directory)  # the names of files just made
    except OSError as error:
        raise LogUnavailable(f"cannot open the log in {directory}: {error}") from error
    return log


def has_log(directory: Path) -> bool:
    """Whether a log stands in the folder: to open it would make one."""
    return (directory / _FILE).is_file()


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _size_bytes(key: bytes, value: bytes | None) -> int:
    # SQLite would keep a string as one, and count its characters.
    if isinstance(key, bytes):
        if isinstance(value, bytes):
            return len(key) + len(value)
        if value is None:
            return len(key)
    raise TypeError(f"key and value of a record are bytes, not {type(key).__name__} and {type(value).__name__}")


class EmbeddedLog:
    """See `api.Log`. A forked child cannot use it: it opens the log itself."""

    def __init__(self, directory: Path, clock_ms: Callable[[], int], limits: Limits, new_id: str | None = None) -> None:
        self._directory, self._clock_ms = directory, clock_ms
        with ExitStack() as undo:
            # A lock each: one open file's lock does not keep out another thread that uses the same one.
            self._append_lock, self._checkpoint_lock = (WriterLock(directory / _LOCK) for _ in range(2))
            undo.callback(self._append_lock.close)
            undo.callback(self._checkpoint_lock.close)
            self._folder = Folder(directory / _READERS)
            undo.callback(self._folder.close)
            self._store = Store(directory / _FILE, self._append_lock, new_id)
            undo.pop_all()
        self._catalog = catalog.Catalog(self._store)
        self._ringer = Ringer(self._folder)
        self._checkpointer = Checkpointer(self._store, self._checkpoint_lock)
        self._appender = Appender(
            self._store, self._append_lock, self._ringer, clock_ms, limits, self._checkpointer.written
        )
        self._tails: weakref.WeakSet[EmbeddedTail] = weakref.WeakSet()
        self._closed = False
        _open_logs.add(self)

    @property
    def log_id(self) -> str:
        return self._store.log_id

    def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        lock = WriterLock(self._directory / _LOCK)
        try:
            with translated(), lock.held(), self._store.reading() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    catalog.ensure(connection, topics)
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
        finally:
            lock.close()
        self._catalog.forget()

    def check_topics(self, topics: Sequence[TopicSpec]) -> None:
        with self._store.reading() as connection:
            catalog.check(connection, topics)

    def topics(self) -> list[TopicSpec]:
        """All topics, as they stand in the file."""
        with self._store.reading() as connection:
            return catalog.specs(connection)

    def followers(self) -> list[int]:
        """The processes that follow this log at this moment: those of a server do, an operator's command hardly."""
        return listeners(self._folder)

    def partitions(self, topic: str) -> int:
        return len(self._catalog.topic(topic).ids)

    def append(self, records: Sequence[Append]) -> Future[list[int]]:
        return self._appender.submit(self._request(records))

    def append_here(self, records: Sequence[Append]) -> list[int]:
        return self._appender.commit_here(self._request(records))

    def _request(self, records: Sequence[Append]) -> Request:
        rows = []
        size_bytes = 0
        looked_up: TopicPartition | None = None
        for topic, partition, key, value in records:
            # A batch's records are of one partition, or of few.
            if (topic, partition) != looked_up:
                partition_id = self._catalog.partition_id(topic, partition)
                looked_up = topic, partition
            size = _size_bytes(key, value)
            if size > MAX_RECORD_BYTES:
                raise RecordTooLarge(f"{size} bytes for {topic}: at most {MAX_RECORD_BYTES}")
            rows.append((partition_id, key, value))
            size_bytes += size
        return Request(rows, size_bytes)

    def read(
        self, topic: str, partition: int, offset: int, max_records: int = 1000, max_bytes: int = 8 << 20
    ) -> list[Record]:
        if offset < 0 or max_records < 1:
            raise ValueError(f"read from {offset}, {max_records} records")
        partition_id = self._catalog.partition_id(topic, partition)
        records = read_records(self._store, topic, partition, partition_id, offset, max_records, max_bytes)
        if not records and offset > (end := self.end(topic, partition)):
            raise PositionBeyondEnd(topic, partition, offset, end)
        return records

    def end(self, topic: str, partition: int) -> int:
        partition_id = self._catalog.partition_id(topic, partition)
        with self._store.reading() as connection:
            found = connection.execute("SELECT next_offset FROM partitions WHERE id = ?", (partition_id,)).fetchall()
        return int(found[0][0])

    def ends(self, topic: str) -> list[int]:
        ids = self._catalog.topic(topic).ids
        ends = read_ends(self._store)
        return [ends[partition_id] for partition_id in ids]

    def tail(self, positions: Mapping[TopicPartition, int]) -> EmbeddedTail:
        ids = {which: self._catalog.partition_id(*which) for which in positions}

        def ends() -> dict[TopicPartition, int]:
            by_id = read_ends(self._store)
            return {which: by_id[partition_id] for which, partition_id in ids.items()}

        by_id = {partition_id: which for which, partition_id in ids.items()}
        tail = EmbeddedTail(positions, self._folder, by_id, ends, self.read)
        self._tails.add(tail)
        return tail

    def join(self, group: str, topics: Sequence[str]) -> EmbeddedMembership:
        return EmbeddedMembership(
            frozenset((topic, number) for topic in topics for number in range(self.partitions(topic)))
        )

    def wait_for(self, topic: str, partition: int, offset: int, timeout_s: float) -> bool:
        if self.end(topic, partition) >= offset:
            return True
        deadline = time.monotonic() + timeout_s
        bell = Doorbell(self._folder, interest_in([self._catalog.partition_id(topic, partition)]))
        try:
            while self.end(topic, partition) < offset:
                if not bell.wait(deadline):
                    return self.end(topic, partition) >= offset
                bell.clear()
            return True
        finally:
            bell.close()

    def compact(self, topic: str, now_ms: int | None = None) -> int:
        now_ms = self._clock_ms() if now_ms is None else now_ms
        spec = self._catalog.topic(topic)
        with translated():
            lock, connection = WriterLock(self._directory / _LOCK), self._store.connect()
            try:
                return compaction.compact(connection, lock, spec, now_ms)
            finally:
                self._store.release(connection)
                lock.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        _open_logs.discard(self)
        self._appender.close()
        self._checkpointer.close()
        for tail in list(self._tails):
            tail.close()
        self._store.close()
        self._ringer.close()
        self._close_files()

    def _close_files(self) -> None:
        self._folder.close()
        self._append_lock.close()
        self._checkpoint_lock.close()

    def _abandon(self) -> None:
        """In a forked child: lets go of the parent's files, or its lock would outlive it."""
        self._closed = True
        self._appender.abandon()
        self._store.abandon()
        for tail in list(self._tails):
            tail.abandon()
        self._ringer.close()
        self._close_files()


_open_logs: weakref.WeakSet[EmbeddedLog] = weakref.WeakSet()


def _abandon_all() -> None:
    for log in list(_open_logs):
        log._abandon()
    _open_logs.clear()


os.register_at_fork(after_in_child=_abandon_all)

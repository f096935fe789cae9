"""The conformance suite on the embedded log, and what only a file can do wrong."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from annals.eventlog.api import Append, Log
from annals.eventlog.embedded import EmbeddedLog, checkpointer, open_embedded
from annals.eventlog.errors import AppendFailed, BackPressure, LogCorrupt, LogUnavailable
from annals.eventlog.limits import Limits
from annals.schemas.topics import TopicSpec
from tests.support.log_contract import HOUR_MS, KeepingContract, LogContract, everything, put, real_ms
from tests.support.log_workers import SPAWN, Opener, follow_slowly, process
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until


class EmbeddedBackend:
    atomic_append = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opener: Opener = partial(open_embedded, directory)

    def open(self, now_ms: Callable[[], int] | None = None, max_queued: int | None = None) -> EmbeddedLog:
        limits = Limits() if max_queued is None else Limits(records=max_queued)
        return open_embedded(self.directory, now_ms or real_ms, limits)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        fd = os.open(self.directory / "log.lock", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(fd)

    def compact(self, log: Log, topic: str) -> None:
        assert log.compact(topic) >= 0


@pytest.fixture
def backend(tmp_path: Path) -> EmbeddedBackend:
    return EmbeddedBackend(tmp_path / "log")


@pytest.fixture
def log(backend: EmbeddedBackend) -> Iterator[EmbeddedLog]:
    log = backend.open()
    log.ensure_topics([TopicSpec("one", 1), TopicSpec("keys", 1, compacted=True)])
    yield log
    log.close()


class TestEmbedded(LogContract):
    pass


class TestKeeping(KeepingContract):
    pass


@pytest.mark.parametrize("count", [1, 249, 250, 251, 500, 501])
def test_a_limit_of_bytes_holds_over_the_statements_of_a_read(log: EmbeddedLog, count: int) -> None:
    put(log, "one", 0, *[b"x" * 10] * 600)
    (first,) = log.read("one", 0, 0, max_records=1)
    each = len(first.key) + 10
    for beyond in (0, each - 1):
        assert [r.offset for r in log.read("one", 0, 0, max_bytes=count * each + beyond)] == list(range(count))


def test_a_tombstone_goes_by_the_clock_that_stamped_it(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    earlier = backend.open(now_ms=lambda: real_ms() - 25 * HOUR_MS)
    put(earlier, "keys", 0, b"old", None, key=b"old")
    put(log, "keys", 0, b"new", None, key=b"new")
    assert log.compact("keys") == 3
    assert [(r.offset, r.key, r.value) for r in everything(log, "keys", 0)] == [(3, b"new", None)]
    earlier.close()


def test_a_tail_reaches_an_end_that_compaction_has_bared(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    earlier = backend.open(now_ms=lambda: real_ms() - 25 * HOUR_MS)
    put(earlier, "keys", 0, b"a", b"b", key=b"x")
    put(earlier, "keys", 0, b"gone", None, key=b"y")
    tail = log.tail({("keys", 0): 0})
    assert log.compact("keys") == 3
    assert [r.offset for r in tail.poll(PATIENCE_S)] == [1]
    assert tail.poll(0.01) == []
    assert tail.positions == {("keys", 0): 4} == {("keys", 0): log.end("keys", 0)}
    earlier.close()


def test_the_log_of_one_machine_has_one_holder(log: EmbeddedLog) -> None:
    first, second = log.join("workers", ["one", "keys"]), log.join("workers", ["one", "keys"])
    # Both are told that all is theirs: the fence keeps out the first.
    assert first.poll() == second.poll() == {("one", 0), ("keys", 0)}
    assert not first.shared
    assert not second.shared


def _sockets(backend: EmbeddedBackend) -> list[str]:
    return sorted(path.name for path in (backend.directory / "readers").iterdir())


def test_files_are_for_their_owner_only(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    put(log, "one", 0, b"a")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in backend.directory.iterdir()}
    assert modes == {
        "log.sqlite3": 0o600,
        "log.sqlite3-wal": 0o600,
        "log.sqlite3-shm": 0o600,
        "log.lock": 0o600,
        "readers": 0o700,
    }


def test_every_connection_syncs_each_commit(log: EmbeddedLog) -> None:
    with log._store.reading() as connection:
        settings = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]
    assert {c.execute("PRAGMA synchronous").fetchone()[0] for c in log._store._all} == {2}


def test_a_folder_with_a_long_path_works(tmp_path: Path) -> None:
    backend = EmbeddedBackend(tmp_path / ("x" * 120) / ("y" * 120))
    log = backend.open()
    log.ensure_topics([TopicSpec("one", 1)])
    tail = log.tail({("one", 0): 0})
    assert tail.poll(0) == []
    put(log, "one", 0, b"a")
    assert [r.value for r in tail.poll(None)] == [b"a"]
    log.close()
    assert _sockets(backend) == []


def test_the_socket_of_a_killed_reader_is_removed(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    ready = SPAWN.Event()
    with process(follow_slowly, backend.opener, "one", ready):
        assert ready.wait(PATIENCE_S)
        assert len(_sockets(backend)) == 1
    put(log, "one", 0, b"a")
    # The bells ring before the future is done, so it is gone already.
    assert _sockets(backend) == []


def test_closed_tails_leave_no_socket(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    tails = [log.tail({("one", 0): 0}) for _ in range(3)]
    assert len(_sockets(backend)) == 3
    tails[0].close()
    tails[0].close()
    assert len(_sockets(backend)) == 2
    log.close()
    assert _sockets(backend) == []


def test_an_event_loop_can_wait_on_the_tail(log: EmbeddedLog) -> None:
    async def run() -> list[bytes | None]:
        tail = log.tail({("one", 0): 0})
        came = asyncio.Event()
        asyncio.get_running_loop().add_reader(tail.fileno(), came.set)
        assert tail.poll(0) == []
        log.append([Append("one", 0, b"k", b"v")])
        await asyncio.wait_for(came.wait(), PATIENCE_S)
        asyncio.get_running_loop().remove_reader(tail.fileno())
        values = [record.value for record in tail.poll(0)]
        tail.close()
        return values

    assert asyncio.run(run()) == [b"v"]


def test_bytes_count_for_back_pressure_and_one_large_call_passes(backend: EmbeddedBackend) -> None:
    log = open_embedded(backend.directory, real_ms, Limits(size_bytes=1000))
    log.ensure_topics([TopicSpec("one", 1)])
    with backend.stalled():
        large = log.append([Append("one", 0, b"", b"x" * 5000)])
        with pytest.raises(BackPressure):
            log.append([Append("one", 0, b"", b"x")])
    assert large.result(PATIENCE_S) == [0]
    assert put(log, "one", 0, b"y") == [1]
    log.close()


def test_what_queued_during_a_commit_is_the_next_one(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    commits: list[int] = []  # the clock is read once for each

    def now_ms() -> int:
        commits.append(real_ms())
        return commits[-1]

    counted = backend.open(now_ms)
    with backend.stalled():
        futures = [counted.append([Append("one", 0, b"k", b"%d" % n)]) for n in range(100)]
    assert [future.result(PATIENCE_S) for future in futures] == [[n] for n in range(100)]
    assert len(commits) == 1
    counted.close()


def test_who_waits_commits_by_itself_while_nothing_else_is_under_way(backend: EmbeddedBackend) -> None:
    committers: list[int] = []  # who reads the clock

    def now_ms() -> int:
        committers.append(threading.get_ident())
        return real_ms()

    log = backend.open(now_ms)
    log.ensure_topics([TopicSpec("one", 1)])
    assert log.append_here([Append("one", 0, b"k", b"a")]) == [0]
    assert committers == [threading.get_ident()]
    with ThreadPoolExecutor(1) as pool, backend.stalled():
        queued = log.append([Append("one", 0, b"k", b"b")])
        waiting = pool.submit(log.append_here, [Append("one", 0, b"k", b"c")])
        until(lambda: log._appender._waiting_records == 2)
    assert (queued.result(PATIENCE_S), waiting.result(PATIENCE_S)) == ([1], [2])
    assert len(committers) == 2, "both in one commit"
    assert committers[1] == log._appender._thread.ident
    log.close()


def test_a_commit_by_who_waits_takes_nothing_along(backend: EmbeddedBackend) -> None:
    """What the log's thread has taken from the queue before would be overtaken by what is behind it."""
    log = backend.open()
    log.ensure_topics([TopicSpec("one", 1)])
    with ThreadPoolExecutor(1) as pool:
        with backend.stalled():
            here = pool.submit(log.append_here, [Append("one", 0, b"k", b"a")])
            until(lambda: log._appender._waiting_records == 1)
            second = log.append([Append("one", 0, b"k", b"b")])
            until(log._appender._queue.empty, "the thread has taken it")
            third = log.append([Append("one", 0, b"k", b"c")])
        assert [future.result(PATIENCE_S) for future in (here, second, third)] == [[0], [1], [2]]
    log.close()


@pytest.mark.parametrize(("fault", "heard"), [(OSError, AppendFailed), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_commit_by_who_waits_fails_alone(
    backend: EmbeddedBackend, fault: type[BaseException], heard: type[BaseException]
) -> None:
    fails = [True]

    def now_ms() -> int:
        if fails.pop():
            raise fault("no clock")
        return real_ms()

    log = backend.open(now_ms)
    log.ensure_topics([TopicSpec("one", 1)])
    with pytest.raises(heard, match="no clock"):
        log.append_here([Append("one", 0, b"k", b"a")])
    fails += [False, False]
    assert log.append_here([Append("one", 0, b"k", b"b")]) == [0]
    assert log.append([Append("one", 0, b"k", b"c")]).result(PATIENCE_S) == [1]
    log.close()


def test_a_log_is_not_closed_under_who_commits(backend: EmbeddedBackend) -> None:
    entered, release = threading.Event(), threading.Event()

    def now_ms() -> int:
        entered.set()
        release.wait(PATIENCE_S)
        return real_ms()

    log = backend.open(now_ms)
    log.ensure_topics([TopicSpec("one", 1)])
    with ThreadPoolExecutor(2) as pool:
        appended = pool.submit(log.append_here, [Append("one", 0, b"k", b"a")])
        assert entered.wait(PATIENCE_S)
        closed = pool.submit(log.close)
        until(lambda: not log._appender._thread.is_alive())
        assert not closed.done()
        release.set()
        assert appended.result(PATIENCE_S) == [0]
        closed.result(PATIENCE_S)


def test_more_than_a_commit_takes_is_written_in_order(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    commits: list[int] = []

    def now_ms() -> int:
        commits.append(real_ms())
        return commits[-1]

    counted = backend.open(now_ms)
    with backend.stalled():
        futures = [counted.append([Append("one", 0, b"", b"%d" % n)] * 1500) for n in range(7)]
    assert [future.result(PATIENCE_S)[0] for future in futures] == [1500 * n for n in range(7)]
    assert [record.value for record in everything(log, "one", 0)[::1500]] == [b"%d" % n for n in range(7)]
    assert len(commits) == 4  # of at most 4,000 records each
    counted.close()


def test_the_write_ahead_log_does_not_grow_for_ever(
    log: EmbeddedLog, backend: EmbeddedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "_EVERY_BYTES", 64 << 10)
    monkeypatch.setattr(checkpointer, "_PAGES_TO_STOP_WRITERS", 64)
    wal, written = backend.directory / "log.sqlite3-wal", 0
    # A checkpoint is due hundreds of times: after one of them the file is written from its beginning.
    while written < 4_000_000 or wal.stat().st_size > written / 2:
        put(log, "one", 0, *[b"x" * 10_000] * 20)
        written += 200_000
        assert written < 100_000_000, "it grows for ever"


def test_what_was_compacted_is_not_found_in_the_file(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    put(log, "keys", 0, b"the secret of a subject", None, key=b"@a:b")
    log.compact("keys")
    log.close()
    assert b"the secret of a subject" not in (backend.directory / "log.sqlite3").read_bytes()


def test_a_full_disk_fails_appends_and_the_log_goes_on(backend: EmbeddedBackend) -> None:
    parent, child = SPAWN.Pipe()
    with process(_fill_the_disk, backend.directory, child):
        assert parent.poll(PATIENCE_S)
        acknowledged = parent.recv()
    log = backend.open()
    held = {record.offset: record.value for record in everything(log, "one", 0)}
    assert list(held) == list(range(log.end("one", 0)))
    assert acknowledged.items() <= held.items()
    assert held[max(acknowledged)] == b"after"
    log.close()


def _fill_the_disk(directory: Path, report: Any) -> None:
    log = open_embedded(directory)
    log.ensure_topics([TopicSpec("one", 1)])
    acknowledged = {0: b"first"}
    assert put(log, "one", 0, b"first") == [0]
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    failed = 0
    while failed < 3:
        try:
            acknowledged[put(log, "one", 0, b"x" * 100_000)[0]] = b"x" * 100_000
        except AppendFailed:
            failed += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    acknowledged[put(log, "one", 0, b"after")[0]] = b"after"
    report.send(acknowledged)


# -- files that are not a log, or no longer


def _damage(file: Path, how: str) -> None:
    size = file.stat().st_size
    with file.open("r+b") as stream:
        if how == "header":
            stream.write(b"not a database at all")
        elif how == "cut":
            stream.truncate(size // 2)
        elif how == "odd":
            stream.truncate(size - 100)
        elif how == "id":
            stream.seek(68)
            stream.write(b"\1\2\3\4")


@pytest.mark.parametrize("how", ["header", "cut", "odd", "id"])
def test_a_damaged_file_is_refused(log: EmbeddedLog, backend: EmbeddedBackend, how: str) -> None:
    put(log, "one", 0, *[b"x" * 1000] * 100)
    log.close()
    file = backend.directory / "log.sqlite3"
    _damage(file, how)
    before = file.read_bytes()
    with pytest.raises(LogCorrupt):
        backend.open()
    assert file.read_bytes() == before


def test_a_record_behind_the_end_is_damage(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    put(log, "one", 0, b"a", b"b")
    log.close()
    connection = sqlite3.connect(backend.directory / "log.sqlite3")
    connection.execute("UPDATE partitions SET next_offset = 1 WHERE topic = 'one'")
    connection.commit()
    connection.close()
    with pytest.raises(LogCorrupt, match=r"one\[0\] has a record at 1"):
        backend.open()


def test_a_torn_end_of_the_write_ahead_log_is_left_out(log: EmbeddedLog, backend: EmbeddedBackend) -> None:
    ready = SPAWN.Event()
    with process(_append_and_hang, backend.directory, ready):
        assert ready.wait(PATIENCE_S)
        log.close()  # the child has it open, so nothing is moved out of the write-ahead log
    wal = backend.directory / "log.sqlite3-wal"
    with wal.open("r+b") as stream:
        stream.truncate(wal.stat().st_size - 5)
    again = backend.open()
    records = everything(again, "one", 0)
    assert [record.value for record in records] == [b"%d" % n for n in range(len(records))]
    assert 0 < len(records) == again.end("one", 0) < 20
    assert put(again, "one", 0, b"next") == [len(records)]
    again.close()


def _append_and_hang(directory: Path, ready: Any) -> None:
    log = open_embedded(directory)
    for n in range(20):
        put(log, "one", 0, b"%d" % n)
    ready.set()
    SPAWN.Event().wait()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnavailable):
        open_embedded(tmp_path / "file" / "log")


def test_a_crash_while_the_log_is_made_is_no_harm(backend: EmbeddedBackend) -> None:
    backend.directory.mkdir()
    (backend.directory / "log.sqlite3").touch()
    log = backend.open()
    log.ensure_topics([TopicSpec("one", 1)])
    assert put(log, "one", 0, b"a") == [0]
    log.close()

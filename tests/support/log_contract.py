"""What every back-end of the log must do. A back-end binds it: class TestX(LogContract) with a fixture `backend`."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from annals.eventlog.api import MAX_RECORD_BYTES, Append, Log, Record
from annals.eventlog.errors import (
    BackPressure,
    LogClosed,
    PositionBeyondEnd,
    RecordTooLarge,
    TopicsDiffer,
    UnknownTopic,
)
from annals.schemas.topics import TopicSpec
from tests.support.log_workers import (
    SPAWN,
    Opener,
    echo,
    follow_slowly,
    parse,
    payload,
    process,
    write_some,
    write_until_killed,
)
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until

HOUR_MS = 3_600_000
FILLER_KEY = b"\0filler"
ONE, AGED = TopicSpec("one", 1), TopicSpec("aged", 1, retention_ms=HOUR_MS // 2)
# No more of them than the tests use: a broker takes its time for each partition. And what is not to be gone by its age
# within a test is kept for longer than one may take.
TOPICS = [TopicSpec("plain", 4), ONE, TopicSpec("other", 1), AGED]
KEEPING_TOPICS = [
    ONE,
    AGED,
    TopicSpec("latest", 2, compacted=True, delete_retention_ms=HOUR_MS),
    TopicSpec("hasty", 1, compacted=True, delete_retention_ms=1),
]


class Backend(Protocol):
    """A log that was made for one test, and how it is reached."""

    opener: Opener  # in another process too: picklable
    atomic_append: bool  # all records of a call, or none

    def open(self, now_ms: Callable[[], int] | None = None, max_queued: int | None = None) -> Log:
        """Another handle on the same log. `now_ms` stamps records; None: the real time."""

    def stalled(self) -> AbstractContextManager[None]:
        """While it lasts no append is acknowledged, by nobody's fault."""

    def compact(self, log: Log, topic: str) -> None:
        """Makes compaction and retention come soon. May append records under FILLER_KEY, to each partition."""


def real_ms() -> int:
    return time.time_ns() // 1_000_000


def put(log: Log, topic: str, partition: int, *values: bytes | None, key: bytes = b"k") -> list[int]:
    return log.append([Append(topic, partition, key, value) for value in values]).result(PATIENCE_S)


def everything(log: Log, topic: str, partition: int) -> list[Record]:
    records: list[Record] = []
    offset = 0
    while batch := log.read(topic, partition, offset):
        records += batch
        offset = batch[-1].offset + 1
    return records


def kept(log: Log, topic: str, partition: int) -> list[Record]:
    return [record for record in everything(log, topic, partition) if record.key != FILLER_KEY]


def _is_filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


class LogContract:
    @pytest.fixture
    def log(self, backend: Backend) -> Iterator[Log]:
        log = backend.open()
        log.ensure_topics(TOPICS)
        yield log
        log.close()

    # -- append and read

    def test_offsets_count_from_zero_in_each_partition(self, log: Log) -> None:
        appends = [Append("plain", partition, b"k", b"v") for partition in (0, 1, 0, 3)]
        assert log.append(appends).result(PATIENCE_S) == [0, 0, 1, 0]
        assert log.append(appends).result(PATIENCE_S) == [2, 1, 3, 1]
        assert log.ends("plain") == [4, 2, 0, 2]
        assert [log.end("plain", partition) for partition in range(4)] == [4, 2, 0, 2]

    def test_a_record_comes_back_as_it_was_written(self, log: Log) -> None:
        key, value = bytes(range(256)), bytes(reversed(range(256))) * 256
        written = [(key, value), (b"", b""), (b"\0", None), (key, b"\0"), ("é".encode(), b""), (b"", None)]
        assert len(value) == 64 * 1024
        log.append([Append("plain", 2, k, v) for k, v in written]).result(PATIENCE_S)
        assert log.read("plain", 2, 0) == [Record("plain", 2, n, k, v) for n, (k, v) in enumerate(written)]
        assert log.read("plain", 2, 4) == [Record("plain", 2, 4, "é".encode(), b""), Record("plain", 2, 5, b"", None)]
        assert log.read("plain", 2, 5) == [Record("plain", 2, 5, b"", None)]

    def test_nothing_appended_is_done_at_once(self, log: Log) -> None:
        assert log.append([]).result(PATIENCE_S) == []

    def test_a_read_keeps_to_its_limits(self, log: Log) -> None:
        put(log, "one", 0, *[b"x" * 1000] * 700)
        assert [r.offset for r in log.read("one", 0, 3, max_records=5)] == [3, 4, 5, 6, 7]
        assert [r.offset for r in log.read("one", 0, 10, max_bytes=3500)] == [10, 11, 12]
        assert [r.offset for r in log.read("one", 0, 10, max_bytes=1)] == [10]
        assert [r.offset for r in log.read("one", 0, 0, max_records=650)] == list(range(650))
        assert [r.offset for r in log.read("one", 0, 690)] == list(range(690, 700))
        assert log.read("one", 0, 700) == []

    def test_a_position_behind_the_end_is_an_error(self, log: Log) -> None:
        put(log, "one", 0, b"a")
        with pytest.raises(PositionBeyondEnd):
            log.read("one", 0, 2)
        with pytest.raises(PositionBeyondEnd):
            log.tail({("one", 0): 2})

    def test_records_of_a_key_keep_their_order(self, log: Log) -> None:
        futures = [log.append([Append("one", 0, b"k", b"%d" % n)]) for n in range(500)]
        assert [future.result(PATIENCE_S) for future in futures] == [[n] for n in range(500)]
        assert [r.value for r in everything(log, "one", 0)] == [b"%d" % n for n in range(500)]

    def test_who_waits_for_an_append_passes_nothing_that_it_appended_before(self, log: Log) -> None:
        futures = []
        for n in range(0, 300, 3):
            futures += [log.append([Append("one", 0, b"k", b"%d" % m)]) for m in (n, n + 1)]
            assert log.append_here([Append("one", 0, b"k", b"%d" % (n + 2))]) == [n + 2]
            assert log.read("one", 0, n + 2)[0].value == b"%d" % (n + 2)
        assert [future.result(0) for future in futures] == [[n] for n in range(300) if n % 3 < 2]
        assert [r.value for r in everything(log, "one", 0)] == [b"%d" % n for n in range(300)]
        assert log.append_here([]) == []

    def test_many_threads_write_at_once(self, log: Log) -> None:
        def write(writer: int) -> None:
            for n in range(100):
                if writer % 2:
                    log.append_here([Append("plain", n % 4, b"k", payload(str(writer), n, 50))])
                else:
                    put(log, "plain", n % 4, payload(str(writer), n, 50))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        self._holds_in_order(log, "plain", {str(writer): 100 for writer in range(8)})

    def test_many_processes_write_at_once(self, log: Log, backend: Backend) -> None:
        with (
            process(write_some, backend.opener, "one", "a", 300) as first,
            process(write_some, backend.opener, "one", "b", 300) as second,
        ):
            futures = [log.append([Append("one", 0, b"c", payload("c", n, 100))]) for n in range(300)]
            for future in futures:
                future.result(PATIENCE_S)
            for child in (first, second):
                child.join(PATIENCE_S)
                assert child.exitcode == 0
        self._holds_in_order(log, "one", {"a": 300, "b": 300, "c": 300})

    def _holds_in_order(self, log: Log, topic: str, counts: dict[str, int]) -> None:
        seen: dict[str, list[int]] = {worker: [] for worker in counts}
        for partition in range(log.partitions(topic)):
            records = everything(log, topic, partition)
            assert [record.offset for record in records] == list(range(log.end(topic, partition)))
            last: dict[str, int] = {}
            for record in records:
                worker, sequence = parse(record.value or b"")
                assert sequence > last.get(worker, -1)
                last[worker] = sequence
                seen[worker].append(sequence)
        assert {worker: sorted(found) for worker, found in seen.items()} == {
            worker: list(range(count)) for worker, count in counts.items()
        }

    def test_what_cannot_be_appended_is_refused_at_once_and_whole(self, log: Log) -> None:
        good = Append("one", 0, b"k", b"v")
        for bad, error in (
            (Append("one", 0, b"k", b"x" * MAX_RECORD_BYTES), RecordTooLarge),
            (Append("one", 1, b"k", b"v"), UnknownTopic),
            (Append("one", -1, b"k", b"v"), UnknownTopic),
            (Append("nowhere", 0, b"k", b"v"), UnknownTopic),
            (Append("one", 0, b"k", "text"), TypeError),  # type: ignore[arg-type]
            (Append("one", 0, None, b"v"), TypeError),  # type: ignore[arg-type]
        ):
            for append in (log.append, log.append_here):
                with pytest.raises(error):
                    append([good, bad])
        assert put(log, "one", 0, b"first") == [0]

    def test_an_append_on_its_way_cannot_be_cancelled(self, log: Log, backend: Backend) -> None:
        with backend.stalled():
            future = log.append([Append("one", 0, b"k", b"v")])
            assert not future.cancel()
        assert future.result(PATIENCE_S) == [0]

    # -- topics and identity

    def test_topics_are_checked(self, log: Log) -> None:
        log.ensure_topics(TOPICS)
        wrong = [TopicSpec("plain", 5), TopicSpec("one", 1, compacted=True), TopicSpec("new", 1)]
        with pytest.raises(TopicsDiffer) as error:
            log.ensure_topics(wrong)
        # Each difference has its own line, which begins with the topic.
        assert list(dict.fromkeys(line.split()[0] for line in error.value.differences)) == ["plain", "one"]
        with pytest.raises(UnknownTopic):
            log.partitions("new")
        with pytest.raises(TopicsDiffer):  # what was kept for ever must not begin to go
            log.ensure_topics([TopicSpec("one", 1, retention_ms=1000)])

    def test_a_check_makes_nothing_and_names_each_difference(self, log: Log) -> None:
        log.check_topics(TOPICS)
        wrong = [TopicSpec("plain", 5), TopicSpec("one", 1), TopicSpec("aged", 2, compacted=True), TopicSpec("new", 1)]
        with pytest.raises(TopicsDiffer) as error:
            log.check_topics(wrong)
        differences = error.value.differences
        assert list(dict.fromkeys(line.split()[0] for line in differences)) == ["plain", "aged", "new"]
        assert len([line for line in differences if line.startswith("aged ")]) >= 2
        assert any("4" in line and "5" in line for line in differences if line.startswith("plain "))
        with pytest.raises(UnknownTopic):
            log.partitions("new")

    # -- members

    def test_a_member_alone_has_all_partitions(self, log: Log) -> None:
        member = log.join("workers", ["plain", "one"])
        wanted = {("plain", 0), ("plain", 1), ("plain", 2), ("plain", 3), ("one", 0)}
        until(lambda: member.poll(0.1) == wanted)
        assert member.poll() == wanted
        member.close()
        later = log.join("workers", ["plain", "one"])
        until(lambda: later.poll(0.1) == wanted)
        later.close()

    def test_a_topic_made_by_one_handle_is_known_to_another(self, log: Log, backend: Backend) -> None:
        other = backend.open()
        log.ensure_topics([TopicSpec("late", 3)])
        assert other.partitions("late") == 3
        assert put(other, "late", 2, b"v") == [0]
        other.close()

    def test_id_ends_and_records_outlive_the_handle(self, log: Log, backend: Backend) -> None:
        put(log, "plain", 1, b"a", b"b")
        log_id = log.log_id
        log.close()
        again = backend.open()
        assert again.log_id == log_id
        assert again.ends("plain") == [0, 2, 0, 0]
        assert [r.value for r in again.read("plain", 1, 0)] == [b"a", b"b"]
        assert put(again, "plain", 1, b"c") == [2]
        again.close()

    def test_a_closed_log_says_so(self, log: Log) -> None:
        tail = log.tail({("one", 0): 0})
        future = log.append([Append("one", 0, b"k", b"v")])
        log.close()
        assert future.result(0) == [0]  # close wrote it
        log.close()
        for use in (
            lambda: log.append([Append("one", 0, b"k", b"v")]),
            lambda: log.append_here([Append("one", 0, b"k", b"v")]),
            lambda: log.read("one", 0, 0),
            lambda: log.end("one", 0),
            lambda: tail.poll(0),
            lambda: log.tail({("one", 0): 0}),
            lambda: log.wait_for("one", 0, 2, 0),
            lambda: log.compact("one"),
            lambda: log.ensure_topics(TOPICS),
        ):
            with pytest.raises(LogClosed):
                use()
        tail.close()

    def test_a_forked_child_harms_nothing(self, log: Log) -> None:
        tail = log.tail({("one", 0): 0})
        put(log, "one", 0, b"a")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for use in (
                    lambda: put(log, "one", 0, b"x"),
                    lambda: log.append_here([Append("one", 0, b"k", b"x")]),
                    lambda: log.read("one", 0, 0),
                    lambda: tail.poll(0),
                ):
                    with pytest.raises(LogClosed):
                        use()
                tail.close()
                log.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        told: list[bytes | None] = []
        for value in (b"b", b"c"):
            put(log, "one", 0, value)
            while value not in told:
                told += [record.value for record in tail.poll(PATIENCE_S)]
        assert told == [record.value for record in everything(log, "one", 0)] == [b"a", b"b", b"c"]

    # -- back-pressure

    def test_a_full_queue_refuses_at_once_and_goes_on_later(self, log: Log, backend: Backend) -> None:
        small = backend.open(max_queued=10)
        taken: list[Future[list[int]]] = []
        with backend.stalled():
            with pytest.raises(BackPressure):
                for n in range(1000):
                    taken.append(small.append([Append("one", 0, b"k", b"%d" % n)]))
            assert 0 < len(taken) <= 10
        assert [future.result(PATIENCE_S) for future in taken] == [[n] for n in range(len(taken))]
        assert put(small, "one", 0, b"after") == [len(taken)]
        small.close()

    # -- tails

    def test_a_tail_goes_on_from_its_positions(self, log: Log) -> None:
        put(log, "one", 0, b"a", b"b", b"c")
        tail = log.tail({("one", 0): 1})
        assert [r.value for r in tail.poll(0)] == [b"b", b"c"]
        assert tail.positions == {("one", 0): 3}
        put(log, "one", 0, b"d")
        assert [r.value for r in tail.poll(PATIENCE_S)] == [b"d"]
        positions = dict(tail.positions)
        tail.close()
        put(log, "one", 0, b"e")
        resumed = log.tail(positions)
        assert [r.value for r in resumed.poll(0)] == [b"e"]
        resumed.seek("one", 0, 0)
        assert [r.offset for r in resumed.poll(0)] == [0, 1, 2, 3, 4]
        resumed.close()

    def test_a_tail_serves_its_partitions_in_turn(self, log: Log) -> None:
        put(log, "plain", 0, *[b"x"] * 1000)
        put(log, "plain", 3, *[b"y"] * 100)
        put(log, "one", 0, *[b"z"] * 100)
        tail = log.tail({("plain", 0): 0, ("plain", 1): 0, ("plain", 3): 0, ("one", 0): 0})
        one_each = [r.value for _ in range(4) for r in tail.poll(0, max_records=1)]
        assert set(one_each) == {b"x", b"y", b"z"}
        tail.seek("plain", 0, 0)
        tail.seek("plain", 3, 0)
        tail.seek("one", 0, 0)
        first = tail.poll(0, max_records=30)
        shares = {value: [r.value for r in first].count(value) for value in (b"x", b"y", b"z")}
        assert shares == {b"x": 10, b"y": 10, b"z": 10}
        rest = list(first)
        while batch := tail.poll(0, max_records=30):
            assert len(batch) <= 30
            rest += batch
        for partition in (("plain", 0), ("plain", 3), ("one", 0)):
            offsets = [r.offset for r in rest if (r.topic, r.partition) == partition]
            assert offsets == list(range(len(offsets)))
        assert len(rest) == 1200
        assert tail.positions == {("plain", 0): 1000, ("plain", 1): 0, ("plain", 3): 100, ("one", 0): 100}
        tail.close()

    def test_a_poll_without_records_ends_with_its_time(self, log: Log) -> None:
        tail = log.tail({("one", 0): 0})
        put(log, "other", 0, b"not followed")
        begun = time.monotonic()
        assert tail.poll(0.05) == []
        assert time.monotonic() - begun >= 0.05
        tail.close()

    def test_a_waiting_poll_can_be_woken(self, log: Log) -> None:
        tail = log.tail({("one", 0): 0})
        tail.wake()
        assert tail.poll(None) == []  # a wake that came before is not lost
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(tail.poll, None)
            tail.wake()
            assert waiting.result(PATIENCE_S) == []
        assert tail.poll(0.01) == []
        tail.close()

    def test_closing_a_tail_ends_its_poll(self, log: Log) -> None:
        tail = log.tail({("one", 0): 0})
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(tail.poll, None)
            time.sleep(0.05)
            tail.close()
            with pytest.raises(LogClosed):
                waiting.result(PATIENCE_S)

    def test_an_append_wakes_a_waiting_poll(self, log: Log) -> None:
        tail = log.tail({("plain", 2): 0, ("one", 0): 0})
        with ThreadPoolExecutor(1) as pool:
            for n in range(20):
                waiting = pool.submit(tail.poll, None)
                put(log, "plain", 2, b"%d" % n)
                assert [r.value for r in waiting.result(PATIENCE_S)] == [b"%d" % n]
        tail.close()

    def test_two_processes_wake_each_other(self, log: Log, backend: Backend) -> None:
        ready = SPAWN.Event()
        with process(echo, backend.opener, "one", "other", ready):
            assert ready.wait(PATIENCE_S)
            tail = log.tail({("other", 0): 0})
            for n in range(50):
                put(log, "one", 0, b"%d" % n)
                # No time-out: were one side not woken, this would wait for ever.
                assert [r.value for r in tail.poll(None)] == [b"%d" % n]
            tail.close()

    def test_a_reader_that_does_not_read_holds_up_nobody(self, log: Log, backend: Backend) -> None:
        ready = SPAWN.Event()
        with process(follow_slowly, backend.opener, "one", ready) as reader:
            assert ready.wait(PATIENCE_S)
            for n in range(600):
                put(log, "one", 0, b"%d" % n)
            reader.kill()
            reader.join()
        tail = log.tail({("one", 0): 600})
        put(log, "one", 0, b"after")
        assert [r.value for r in tail.poll(None)] == [b"after"]
        tail.close()

    def test_waiting_for_a_position(self, log: Log, backend: Backend) -> None:
        put(log, "one", 0, b"a")
        assert log.wait_for("one", 0, 1, 0)
        assert not log.wait_for("one", 0, 2, 0.02)
        other = backend.open()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(log.wait_for, "one", 0, 3, PATIENCE_S)
            put(other, "one", 0, b"b")
            assert not waiting.done()
            put(other, "one", 0, b"c")
            assert waiting.result(PATIENCE_S)
        other.close()

    def test_readers_see_no_hole_and_no_part_of_a_call(self, log: Log, backend: Backend) -> None:
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                put(log, "one", 0, b"1", b"2", b"3")

        with ThreadPoolExecutor(2) as pool:
            writers = [pool.submit(write) for _ in range(2)]
            tail = log.tail({("one", 0): 0})
            offset = 0
            while offset < 600:
                end = log.end("one", 0)
                if backend.atomic_append:
                    assert end % 3 == 0
                for record in tail.poll(PATIENCE_S):
                    assert (record.offset, record.value) == (offset, b"%d" % (offset % 3 + 1))
                    offset += 1
            stop.set()
            for writer in writers:
                writer.result(PATIENCE_S)
        tail.close()

    # -- kill -9

    def test_a_killed_writer_loses_nothing_acknowledged(
        self, log: Log, backend: Backend, tmp_path: Path, rng: random.Random
    ) -> None:
        seed = rng.getrandbits(32)
        files: list[tuple[str, Path]] = []
        survivor = tmp_path / "survivor"
        with process(write_until_killed, backend.opener, "plain", "survivor", seed, survivor):
            files.append(("survivor", survivor))
            for turn in range(4):
                worker, path = f"victim{turn}", tmp_path / f"victim{turn}"
                files.append((worker, path))
                with process(write_until_killed, backend.opener, "plain", worker, seed + turn, path):
                    # It writes, and has been told so: where it is in that when it is killed is left to chance.
                    until(partial(_is_filled, path))
                    time.sleep(rng.uniform(0.0, 0.1))
                put(log, "plain", turn, payload("parent", turn, 10))
            until(partial(_is_filled, survivor))
        again = backend.open()
        for handle in (log, again):
            self._holds_all_acknowledged(handle, files, backend.atomic_append)
        put(again, "plain", 0, b"after")
        again.close()

    def _holds_all_acknowledged(self, log: Log, files: list[tuple[str, Path]], atomic: bool) -> None:
        held: dict[tuple[int, int], tuple[str, int]] = {}
        sequences: dict[str, set[int]] = {}
        for partition in range(4):
            records = everything(log, "plain", partition)
            assert [record.offset for record in records] == list(range(log.end("plain", partition)))
            for record in records:
                worker, sequence = held[partition, record.offset] = parse(record.value or b"")
                sequences.setdefault(worker, set()).add(sequence)
        acknowledged = 0
        for worker, path in files:
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):  # the kill may fall into the writing of the line
                    partition, offset, sequence = map(int, line.split())
                    assert held[partition, offset] == (worker, sequence)
                    acknowledged += 1
            if atomic:
                assert sequences[worker] == set(range(len(sequences[worker])))
        assert acknowledged > 0


class KeepingContract:
    """Compaction and retention."""

    @pytest.fixture
    def log(self, backend: Backend) -> Iterator[Log]:
        log = backend.open()
        log.ensure_topics(KEEPING_TOPICS)
        yield log
        log.close()

    def test_compaction_keeps_the_last_of_each_key(self, log: Log, backend: Backend) -> None:
        for n in range(600):
            log.append([Append("latest", 1, b"%d" % (n % 3), b"%d" % n)])
        put(log, "latest", 1, b"last", key=b"x")
        backend.compact(log, "latest")
        until(lambda: len(kept(log, "latest", 1)) == 4)
        expected = [Record("latest", 1, 597 + n, b"%d" % n, b"%d" % (597 + n)) for n in range(3)]
        assert kept(log, "latest", 1) == [*expected, Record("latest", 1, 600, b"x", b"last")]
        end = log.end("latest", 1)
        assert end >= 601
        assert put(log, "latest", 1, b"next", key=b"x") == [end]

    def test_a_tombstone_stays_for_its_grace_then_goes(self, log: Log, backend: Backend) -> None:
        def compacted(topic: str) -> list[tuple[int, bytes | None]]:
            backend.compact(log, topic)
            return [(record.offset, record.value) for record in kept(log, topic, 0)]

        for topic in ("latest", "hasty"):
            put(log, topic, 0, b"old", None)
        until(lambda: compacted("latest") == [(1, None)])
        until(lambda: compacted("hasty") == [])
        assert compacted("latest") == [(1, None)]

    def test_a_reader_passes_over_what_compaction_removed(self, log: Log, backend: Backend) -> None:
        put(log, "latest", 0, b"a", b"b", key=b"x")
        put(log, "latest", 0, b"gone", None, key=b"y")
        put(log, "latest", 0, b"c", b"d", key=b"z")
        backend.compact(log, "latest")
        until(lambda: len(kept(log, "latest", 0)) == 3)
        # Nobody stood at 2 before it went; from there the next record is 3.
        assert [r.offset for r in log.read("latest", 0, 2, max_records=2)] == [3, 5]
        tail = log.tail({("latest", 0): 0})
        seen = []
        while tail.positions["latest", 0] < log.end("latest", 0):
            seen += [r.offset for r in tail.poll(PATIENCE_S) if r.key != FILLER_KEY]
        assert seen == [1, 3, 5]
        tail.close()

    def test_retention_removes_by_age(self, log: Log, backend: Backend) -> None:
        earlier = backend.open(now_ms=lambda: real_ms() - HOUR_MS)
        put(earlier, "aged", 0, *[b"old"] * 1200)
        put(log, "aged", 0, b"new")
        backend.compact(log, "aged")
        until(lambda: [r.value for r in kept(log, "aged", 0)] == [b"new"])
        tail = log.tail({("aged", 0): 0})
        assert [r.offset for r in tail.poll(PATIENCE_S) if r.key != FILLER_KEY] == [1200]
        tail.close()
        assert log.end("aged", 0) >= 1201
        earlier.close()

    def test_ends_stay_when_all_is_gone(self, log: Log, backend: Backend) -> None:
        earlier = backend.open(now_ms=lambda: real_ms() - HOUR_MS)
        put(earlier, "aged", 0, b"a", b"b")
        backend.compact(log, "aged")
        end = log.end("aged", 0)
        until(lambda: log.read("aged", 0, 0) == [])
        again = backend.open()
        assert again.end("aged", 0) == end >= 2
        tail = again.tail({("aged", 0): 0})
        assert tail.poll(0.01) == []
        until(lambda: tail.poll(0) == [] and tail.positions == {("aged", 0): end})
        assert put(again, "aged", 0, b"c") == [end]
        assert [r.value for r in tail.poll(PATIENCE_S)] == [b"c"]
        again.close()
        earlier.close()

    def test_what_is_kept_for_ever_stays(self, log: Log, backend: Backend) -> None:
        earlier = backend.open(now_ms=lambda: real_ms() - 1000 * 24 * HOUR_MS)
        put(earlier, "one", 0, b"a", b"b", None)
        put(earlier, "aged", 0, b"a")
        backend.compact(log, "one")
        backend.compact(log, "aged")
        until(lambda: kept(log, "aged", 0) == [])  # by then the other was looked at too
        assert len(everything(log, "one", 0)) == 3
        earlier.close()

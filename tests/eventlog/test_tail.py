from __future__ import annotations

import os
import time
from pathlib import Path

from annals.eventlog.api import Record, TopicPartition
from annals.eventlog.embedded.doorbell import Doorbell, Folder, Ringer, interest_in
from annals.eventlog.embedded.tail import EmbeddedTail
from tests.support.patience import PATIENCE_S

ONE: TopicPartition = ("one", 0)


def test_an_append_right_after_the_look_at_the_ends_is_not_slept_over(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    ringer = Ringer(folder)
    end = 0
    looks = 0

    def look() -> dict[TopicPartition, int]:
        nonlocal end, looks
        looks += 1
        seen = end
        if looks == 2:  # the first look of poll; the one before checked the position
            end = 1
            ringer.ring({0: 1})
        return {ONE: seen}

    tail = EmbeddedTail({ONE: 0}, folder, {0: ONE}, look, lambda *_: [Record("one", 0, 0, b"k", b"v")])
    assert [record.offset for record in tail.poll(PATIENCE_S)] == [0]
    tail.close()
    ringer.close()
    folder.close()


def test_a_listener_in_the_making_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    (tmp_path / "readers" / ".half-made").touch()
    (tmp_path / "readers" / "no-socket").touch()
    ringer = Ringer(folder)
    ringer.ring({0: 1})
    assert [path.name for path in (tmp_path / "readers").iterdir()] == [".half-made"]
    ringer.close()
    folder.close()


def test_a_commit_wakes_only_those_it_concerns(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    ringer = Ringer(folder)
    one, both = Doorbell(folder, interest_in([3])), Doorbell(folder, interest_in([3, 5]))
    ringer.ring({5: 17})
    assert (one.clear(), both.clear()) == ({}, {5: 17})
    ringer.ring({3: 1, 70: 2})
    assert (one.clear(), both.clear()) == ({3: 1, 70: 2}, {3: 1, 70: 2})
    # All of these: whoever hears of so many does not hear of each.
    ringer.ring(dict.fromkeys(range(20), 1))
    assert (one.clear(), both.clear()) == (None, None)
    for bell in (one, both):
        bell.close()
    ringer.close()
    folder.close()


def test_who_was_late_has_maybe_missed_some(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    ringer, bell = Ringer(folder), Doorbell(folder, interest_in([3]))
    for end in (1, 2):
        ringer.ring({3: end})
    assert bell.clear() is None
    assert bell.clear() == {}
    bell.ring()
    assert bell.clear() is None
    bell.close()
    ringer.close()
    folder.close()


def test_who_comes_after_a_long_rest_is_rung_for(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    ringer, first = Ringer(folder), Doorbell(folder, interest_in([3]))
    for _ in range(2):
        long_ago_s = time.time() - 3600
        os.utime(tmp_path / "readers", (long_ago_s, long_ago_s))
        ringer.ring({3: 1})
    assert first.clear() is None
    second = Doorbell(folder, interest_in([3]))
    ringer.ring({3: 2})
    assert (first.clear(), second.clear()) == ({3: 2}, {3: 2})
    # And at once afterwards, while the folder's time may stand still.
    changed = os.stat(tmp_path / "readers")
    third = Doorbell(folder, interest_in([3]))
    os.utime(tmp_path / "readers", ns=(changed.st_atime_ns, changed.st_mtime_ns))
    ringer.ring({3: 3})
    assert third.clear() == {3: 3}
    for bell in (first, second, third):
        bell.close()
    ringer.close()
    folder.close()


def test_who_hears_where_a_partition_ends_does_not_look(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    ringer = Ringer(folder)
    looks: list[int] = []

    def look() -> dict[TopicPartition, int]:
        looks.append(1)
        return {ONE: 0}

    def read(topic: str, partition: int, offset: int, *_: int) -> list[Record]:
        return [Record("one", 0, offset, b"k", b"v")]

    tail = EmbeddedTail({ONE: 0}, folder, {7: ONE}, look, read)
    assert tail.poll(0) == []
    before = len(looks)
    tail._looked_s = time.monotonic() + PATIENCE_S
    for offset in range(3):
        ringer.ring({7: offset + 1, 9: 100})
        assert [record.offset for record in tail.poll(0)] == [offset]
    assert len(looks) == before
    tail.close()
    ringer.close()
    folder.close()

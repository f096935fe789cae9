from __future__ import annotations

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
            ringer.ring(1)
        return {ONE: seen}

    tail = EmbeddedTail({ONE: 0}, folder, interest_in([0]), look, lambda *_: [Record("one", 0, 0, b"k", b"v")])
    assert [record.offset for record in tail.poll(PATIENCE_S)] == [0]
    tail.close()
    ringer.close()
    folder.close()


def test_a_listener_in_the_making_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    (tmp_path / "readers" / ".half-made").touch()
    (tmp_path / "readers" / "no-socket").touch()
    ringer = Ringer(folder)
    ringer.ring(1)
    assert [path.name for path in (tmp_path / "readers").iterdir()] == [".half-made"]
    ringer.close()
    folder.close()


def test_a_commit_wakes_only_those_it_concerns(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "readers")
    ringer = Ringer(folder)
    one, both = Doorbell(folder, interest_in([3])), Doorbell(folder, interest_in([3, 5]))
    ringer.ring(interest_in([5]))
    assert (one.clear(), both.clear()) == (False, True)
    ringer.ring(interest_in([3, 70]))
    assert (one.clear(), both.clear()) == (True, True)
    for bell in (one, both):
        bell.close()
    ringer.close()
    folder.close()

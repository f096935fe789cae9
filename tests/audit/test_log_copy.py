"""Copying a log: what stands where, going on after a kill, and what is refused."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annals.audit import log_copy
from annals.audit.log_compare import CopyDiffers
from annals.audit.log_copy import CopyRefused, Progress, copy_log, topics_of, verify_copy
from annals.eventlog.api import Append, Log
from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.eventlog.filler import FILLER_KEY
from annals.eventlog.kafka import KafkaSettings, initialise, open_kafka
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.kafka_logs import patient
from tests.support.log_workers import SPAWN, process
from tests.support.patience import PATIENCE_S

HOUR_MS = 3_600_000
LATER_MS = 1_000_000_000 + 30 * HOUR_MS
SPECS = [*TOPICS.values(), decisions_topic("g1"), decisions_topic("g12")]

Place = tuple[str, int, int]
Said = tuple[bytes, bytes | None]


@dataclass
class Clock:
    now_ms: int = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ms


def new_source(directory: Path, clock: Clock) -> EmbeddedLog:
    log = open_embedded(directory, clock_ms=clock)
    log.ensure_topics(SPECS)
    return log


def open_copy(directory: Path, source: EmbeddedLog) -> EmbeddedLog:
    log = open_embedded(directory, clock_ms=Clock(), new_id=source.log_id)
    if log.log_id == source.log_id:
        log.ensure_topics(topics_of(source))
    return log


def copy(source: EmbeddedLog, target: Log, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
    copy_log(source, target, quiet_s=0.0, on_progress=on_progress)


def held(log: Log) -> dict[Place, Said]:
    """All that stands in a log, read one record at a time where it counts: by offsets."""
    found = {}
    for spec in SPECS:
        for partition in range(spec.partitions):
            offset = 0
            while records := log.read(spec.name, partition, offset, max_records=100):
                for record in records:
                    found[spec.name, partition, record.offset] = (record.key, record.value)
                offset = records[-1].offset + 1
    return found


def ends(log: Log) -> dict[str, list[int]]:
    return {spec.name: list(log.ends(spec.name)) for spec in SPECS}


def assert_copied(source: Log, target: Log) -> None:
    """The promise: each record at its offset, a filler at each offset that is empty, and nothing else."""
    assert target.log_id == source.log_id
    assert ends(target) == ends(source)
    there, here = held(source), held(target)
    filled = {
        (name, partition, offset)
        for name, of_topic in ends(source).items()
        for partition, end in enumerate(of_topic)
        for offset in range(end)
    }
    assert here == {place: there.get(place, (b"", None)) for place in filled}


def traffic(log: EmbeddedLog, rng: random.Random, count: int, keys: int = 4) -> None:
    """Records of few keys in all topics, a few a call; tombstones where topics are compacted."""
    appends: list[Append] = []
    for _ in range(count):
        spec = rng.choice(SPECS)
        key = b"key %d" % rng.randrange(keys)
        value = None if spec.compacted and rng.random() < 0.2 else rng.randbytes(rng.choice((0, 9, 300)))
        appends.append(Append(spec.name, rng.randrange(spec.partitions), key, value))
    while appends:
        size = rng.randint(1, 40)
        log.append(appends[:size]).result()
        appends = appends[size:]


def compact(log: EmbeddedLog, clock: Clock) -> int:
    return sum([log.compact(spec.name, clock.now_ms) for spec in SPECS])


@dataclass(frozen=True)
class Made:
    """Logs that were made once, closed: folders to be copied. `empty`: the place of a copy with nothing in it."""

    source: Path
    empty: Path
    copied: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, clock, rng = tmp_path_factory.mktemp("made"), Clock(), random.Random(7)
    made = Made(folder / "source", folder / "empty", folder / "copied")
    with closing(new_source(made.source, clock)) as source:
        traffic(source, rng, 600)
        clock.now_ms = LATER_MS
        traffic(source, rng, 100)
        assert compact(source, clock) > 100
        open_copy(made.empty, source).close()
        shutil.copytree(made.empty, made.copied)
        with closing(open_copy(made.copied, source)) as copied:
            copy(source, copied)
            verify_copy(source, copied)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock(LATER_MS)


@pytest.fixture
def source(made: Made, tmp_path: Path, clock: Clock) -> Iterator[EmbeddedLog]:
    """A log with traffic and gaps: at beginnings, in between and at ends."""
    shutil.copytree(made.source, tmp_path / "source")
    with closing(open_embedded(tmp_path / "source", clock_ms=clock)) as log:
        yield log


@pytest.fixture
def target(made: Made, source: EmbeddedLog, tmp_path: Path) -> Iterator[EmbeddedLog]:
    """The place of the copy: a log with the source's id, and nothing in it."""
    shutil.copytree(made.empty, tmp_path / "target")
    with closing(open_copy(tmp_path / "target", source)) as log:
        yield log


@pytest.fixture
def copied(made: Made, source: EmbeddedLog, tmp_path: Path) -> Iterator[EmbeddedLog]:
    """A copy of the source that is whole."""
    shutil.copytree(made.copied, tmp_path / "target")
    with closing(open_copy(tmp_path / "target", source)) as log:
        yield log


@given(seed=st.integers(0, 1 << 32), rounds=st.lists(st.tuples(st.integers(0, 120), st.booleans()), max_size=4))
@settings(max_examples=10)
def test_a_copy_has_every_record_at_its_offset(seed: int, rounds: Sequence[tuple[int, bool]]) -> None:
    rng, clock = random.Random(seed), Clock()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(new_source(Path(folder, "source"), clock)) as source,
        closing(open_copy(Path(folder, "target"), source)) as target,
    ):
        for count, compacts in rounds:
            traffic(source, rng, count)
            clock.now_ms += rng.choice((0, HOUR_MS, 30 * HOUR_MS))
            if compacts:
                compact(source, clock)
        copy(source, target)
        assert_copied(source, target)
        verify_copy(source, target)


def test_a_copy_is_made_in_batches(source: EmbeddedLog, target: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copy, "BATCH_RECORDS", 3)
    seen: list[Progress] = []
    copy(source, target, seen.append)
    assert_copied(source, target)
    total = sum(map(sum, ends(source).values()))
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert {progress.total for progress in seen} == {total}
    assert seen[-1].done == total
    assert max(b.done - a.done for a, b in pairwise(seen)) == 3


def test_a_copy_compacts_its_fillers_away(source: EmbeddedLog, target: EmbeddedLog, clock: Clock) -> None:
    copy(source, target)
    copied = held(target)
    fillers = {place for place, said in copied.items() if said == (FILLER_KEY, None)}
    compacted = {spec.name for spec in SPECS if spec.compacted}
    assert {place[0] for place in fillers} >= compacted - {"schemas"}
    compact(target, Clock(clock.now_ms + 30 * HOUR_MS))
    left = held(target)
    # Offsets stay as they are, and no key of a record is touched by a filler.
    assert ends(target) == ends(source)
    assert not {place for place in fillers & left.keys() if place[0] in compacted}
    assert all(copied[place] == said for place, said in left.items())
    kept = {place for place, (_, value) in held(source).items() if value is not None and place[0] != "ephemeral"}
    assert kept <= left.keys()
    # Both sides have removed what they need not keep: they are alike all the same.
    verify_copy(source, target)
    compact(source, Clock(clock.now_ms + 30 * HOUR_MS))
    verify_copy(source, target)


def test_a_copy_that_compacted_more_than_its_source_is_alike(source: EmbeddedLog, target: EmbeddedLog) -> None:
    source.append([Append("receipts", 0, b"twice", value) for value in (b"first", b"last")]).result()
    copy(source, target)
    before = len(held(target))
    target.compact("receipts", 0)
    assert (b"twice", b"first") not in held(target).values()
    assert len(held(target)) < before
    verify_copy(source, target)


# -- going on


Opener = Callable[[EmbeddedLog], Log]
#: What somebody who was killed has sent has come by then.
QUIET_S = 1.0


def open_kafka_copy(settings: KafkaSettings, source: EmbeddedLog) -> Log:
    initialise(settings, topics_of(source), source.log_id)
    return open_kafka(settings)


@pytest.fixture(params=["embedded", "kafka"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the place of the copy, in another process too."""
    if request.param == "embedded":
        return partial(open_copy, tmp_path / "target")
    bootstrap = request.getfixturevalue("kafka").bootstrap
    return partial(open_kafka_copy, patient(bootstrap, request.getfixturevalue("kafka_namespace")))


def copy_some(source_dir: Path, opener: Opener, aim: int, reached: Any) -> None:
    """Goes on a little after it has told that so many records are there, and never comes to the end."""
    log_copy.BATCH_RECORDS = 2
    source = open_embedded(source_dir)

    def told(progress: Progress) -> None:
        if progress.done >= aim:
            reached.set()
        if progress.done >= aim + 60:
            SPAWN.Event().wait()

    copy_log(source, opener(source), quiet_s=QUIET_S, on_progress=told)


def test_killed_copies_go_on(source: EmbeddedLog, opener: Opener, tmp_path: Path, rng: random.Random) -> None:
    with closing(opener(source)) as target:
        total = sum(map(sum, ends(source).values()))
        for _ in range(2):
            before = sum(map(sum, ends(target).values()))
            reached = SPAWN.Event()
            aim = before + rng.randint(1, (total - before) // 3)
            with process(copy_some, tmp_path / "source", opener, aim, reached):
                assert reached.wait(PATIENCE_S)
                time.sleep(rng.uniform(0.0, 0.05))
            assert aim <= sum(map(sum, ends(target).values())) < total
        copy_log(source, target, quiet_s=QUIET_S)
        assert_copied(source, target)
        verify_copy(source, target)
        copy(source, target)  # nothing is left to do
        assert_copied(source, target)


def test_a_copy_goes_on_after_the_source_had_more_and_was_compacted(
    source: EmbeddedLog, copied: EmbeddedLog, clock: Clock
) -> None:
    traffic(source, random.Random(3), 200, keys=2)
    clock.now_ms += 30 * HOUR_MS
    assert compact(source, clock)
    copy(source, copied)
    assert ends(copied) == ends(source)
    verify_copy(source, copied)


# -- refusing


@contextmanager
def refused(match: str, target: Log) -> Iterator[None]:
    """CopyRefused, and the target as it was."""
    before = ends(target), held(target)
    with pytest.raises(CopyRefused, match=match):
        yield
    assert (ends(target), held(target)) == before


def test_refuses_another_log(source: EmbeddedLog, tmp_path: Path) -> None:
    with closing(new_source(tmp_path / "other", Clock())) as other, refused("the target is log", other):
        copy(source, other)


def test_refuses_while_a_server_follows_the_source(source: EmbeddedLog, target: EmbeddedLog) -> None:
    with closing(source.tail({("rooms", 0): 0})), refused("a server runs on this log", target):
        copy(source, target)
    copy(source, target)


def test_refuses_a_target_whose_last_record_differs(source: EmbeddedLog, target: EmbeddedLog) -> None:
    target.append([Append("rooms", 3, b"key", b"somebody else's")]).result()
    with refused(r"its rooms\[3\] 0 holds another record", target):
        copy(source, target)


def test_refuses_a_record_where_the_source_has_none(tmp_path: Path) -> None:
    with (
        closing(new_source(tmp_path / "source", Clock())) as source,
        closing(open_copy(tmp_path / "target", source)) as target,
    ):
        traffic(source, random.Random(1), 100)
        with sqlite3.connect(tmp_path / "source" / "log.sqlite3") as raw:
            raw.execute(f"DELETE FROM {table(raw, 'users', 2)} WHERE offset = 0")
        target.append([Append("users", 2, b"key", b"value")]).result()
        with refused(r"users\[2\] 0 holds a record, where the source has none", target):
            copy(source, target)


def test_refuses_a_target_that_went_on(source: EmbeddedLog, copied: EmbeddedLog) -> None:
    copied.append([Append("directory", 0, b"key", b"a server runs on the copy")]).result()
    with refused(r"the target's directory\[0\] ends at", copied):
        copy(source, copied)


def test_refuses_to_go_on_where_somebody_else_writes(
    source: EmbeddedLog, target: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_copy, "BATCH_RECORDS", 5)
    written: list[Progress] = []

    def interfere(progress: Progress) -> None:
        written.append(progress)
        if len(written) == 2:
            for partition in range(8):
                target.append([Append("users", partition, b"key", b"not the copy's")]).result()

    with pytest.raises(CopyRefused, match=r"somebody else wrote to the target's users\[\d\]"):
        copy(source, target, interfere)


def test_says_what_came_meanwhile(source: EmbeddedLog, target: EmbeddedLog) -> None:
    came = iter([2])

    def chat(progress: Progress) -> None:
        for _ in range(next(came, 0)):
            source.append([Append("rooms", 0, b"key", b"late")]).result()

    with pytest.raises(CopyRefused, match="2 records came to this log meanwhile"):
        copy(source, target, chat)
    copy(source, target)
    assert_copied(source, target)


def test_refuses_the_key_of_fillers_in_a_compacted_topic(source: EmbeddedLog, target: EmbeddedLog) -> None:
    source.append([Append("receipts", 1, FILLER_KEY, b"would be compacted away")]).result()
    with pytest.raises(CopyRefused, match=r"receipts\[1\] \d+ has the key of fillers"):
        copy(source, target)


# -- verifying


def table(raw: sqlite3.Connection, topic: str, partition: int) -> str:
    query = "SELECT id FROM partitions WHERE topic = ? AND partition = ?"
    return f"records_{raw.execute(query, (topic, partition)).fetchone()[0]}"


FLIP = "UPDATE {} SET value = CAST('x' || substr(value, 2) AS BLOB) WHERE offset = {}"
DELETE = "DELETE FROM {} WHERE offset = {}"
KEY = "UPDATE {} SET key = CAST('other' AS BLOB) WHERE offset = {}"
EMPTY = "UPDATE {} SET value = CAST('' AS BLOB) WHERE offset = {}"


@pytest.mark.parametrize(
    ("topic", "statement", "wrong"),
    [
        ("rooms", FLIP, "holds another record"),
        ("rooms", KEY, "holds another record"),
        ("rooms", DELETE, "is missing"),
        ("decisions.g12", FLIP, "holds another record"),
        ("receipts", FLIP, "holds another record"),
        ("receipts", DELETE, "is missing, and no later record has its key"),
        ("subject_keys", EMPTY, "holds another record"),
    ],
)
def test_verifying_finds_what_differs(
    source: EmbeddedLog, copied: EmbeddedLog, tmp_path: Path, topic: str, statement: str, wrong: str
) -> None:
    partition, offset = next((p, o) for (t, p, o), (_, value) in held(source).items() if t == topic and value)
    with sqlite3.connect(tmp_path / "target" / "log.sqlite3") as raw:
        raw.execute(statement.format(table(raw, topic, partition), offset))
    with pytest.raises(CopyDiffers) as caught:
        verify_copy(source, copied)
    assert caught.value.differences == (
        f"{topic}[{partition}] {offset} {wrong}" + (" than the source" if wrong.startswith("holds") else ""),
    )


def test_verifying_finds_a_filler_that_is_missing(tmp_path: Path) -> None:
    with (
        closing(new_source(tmp_path / "source", Clock())) as source,
        closing(open_copy(tmp_path / "target", source)) as target,
    ):
        source.append([Append("rooms", 0, b"key", b"%d" % n) for n in range(4)]).result()
        with sqlite3.connect(tmp_path / "source" / "log.sqlite3") as raw:
            raw.execute(f"DELETE FROM {table(raw, 'rooms', 0)} WHERE offset IN (0, 3)")
        copy(source, target)
        assert_copied(source, target)
        verify_copy(source, target)
        for offset in (0, 3):
            with sqlite3.connect(tmp_path / "target" / "log.sqlite3") as raw:
                raw.execute(f"DELETE FROM {table(raw, 'rooms', 0)} WHERE offset = {offset}")
            with pytest.raises(CopyDiffers, match=rf"rooms\[0\] {offset} is missing"):
                verify_copy(source, target)


def test_verifying_finds_an_end_that_differs(source: EmbeddedLog, target: EmbeddedLog) -> None:
    copy(source, target)
    source.append([Append("schemas", 0, b"key", b"later")]).result()
    with pytest.raises(CopyDiffers, match=r"schemas\[0\] \d+ is the copy's end"):
        verify_copy(source, target)


def test_copies_are_told_apart_by_their_chains(source: EmbeddedLog, target: EmbeddedLog, tmp_path: Path) -> None:
    copy(source, target)
    first = verify_copy(source, target)
    assert sum(partition.records for partition in first.values()) == len(held(source))
    with closing(open_copy(tmp_path / "second", source)) as second:
        copy(source, second)
        assert verify_copy(source, second) == first
    source.append([Append("rooms", 5, b"key", None)]).result()
    copy(source, target)
    changed = verify_copy(source, target)
    assert [which for which in first if first[which].chain != changed[which].chain] == [("rooms", 5)]

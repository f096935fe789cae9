"""`annals log copy`: an embedded log, record for record, into another log: the same id, the same offsets.

    source  rooms[0]  0 1 2 3 4 5        receipts[3]  . . 2 . 4 .        . = compacted away
    copy    rooms[0]  0 1 2 3 4 5        receipts[3]  f f 2 f 4 f        f = a filler (annals.eventlog.filler)

So every position stays true: tables, cursors and clients' tokens go on with the copy. Tables follow a log by its id,
therefore the copy has the same one, and only one of the two may be used from then on.

Killed and started again, it goes on at the copy's ends: a partition's records are appended in order, one batch in
flight, so that whatever was written is the beginning of what was to be. That nobody else writes to the copy is checked
by the offset of each record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import repeat
from typing import Literal, Protocol

from annals.audit.log_compare import Compared, compare, difference
from annals.eventlog.api import Append, Log, Record, TopicPartition
from annals.eventlog.errors import AppendFailed, BackPressure, TopicsDiffer, UnknownTopic
from annals.eventlog.filler import FILLER_KEY, filler, is_filler
from annals.eventlog.reading import records_between
from annals.schemas.topics import TOPICS, TopicSpec

#: What is in flight at most, in records and about in bytes: twice that is in memory.
BATCH_RECORDS, BATCH_BYTES = 2000, 4 << 20
_FULL_WAIT_S, _QUIET_LOOKS = 0.05, 20


class Source(Log, Protocol):
    """A log that can say what it holds, and whom it serves: the embedded one."""

    def topics(self) -> list[TopicSpec]: ...

    def followers(self) -> list[int]: ...


class CopyRefused(Exception):
    """The copy cannot begin, go on or be trusted. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Offsets that are copied, or compared, of all."""

    phase: Literal["copied", "compared"]
    done: int
    total: int


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """What one run appended, and what was there before (`resumed`), in offsets. `ends`: of the whole copy."""

    log_id: str
    records: int
    fillers: int
    resumed: int
    ends: Mapping[TopicPartition, int]


def topics_of(source: Source) -> list[TopicSpec]:
    """What the copy must have: all topics of the source, kept as this release keeps them, and those that it lacks.

    Raises TopicsDiffer where this release cannot use the source.
    """
    present = {spec.name: spec for spec in source.topics()}
    source.check_topics([spec for spec in TOPICS.values() if spec.name in present])
    return [*TOPICS.values(), *(spec for name, spec in present.items() if name not in TOPICS)]


def copy_log(source: Source, target: Log, *, quiet_s: float = 1.0, on_progress: OnProgress = lambda _: None) -> Copied:
    """Copy what the target lacks. Nobody may write to either meanwhile. Raises CopyRefused, LogError.

    `quiet_s`: how long the ends of a target that holds something must stand still first. A broker may still be taking
    what a killed copy had sent.
    """
    topics = topics_of(source)
    if followers := source.followers():
        raise CopyRefused(f"a server runs on this log (process {_listed(followers)}): stop it first")
    if target.log_id != source.log_id:
        raise CopyRefused(
            f"the target is log {target.log_id}, this is {source.log_id}: a copy is made in a place where nothing is, "
            "and gets its topics from this command"
        )
    _check_target_topics(target, topics)
    ends = ends_of(source, topics)
    begun = _standing_ends(target, topics, quiet_s)
    parts = [(spec, number) for spec in topics for number in range(spec.partitions)]
    for spec, number in parts:
        _check_begun(source, target, spec, number, begun[spec.name, number], ends[spec.name, number])
    copying = _Copying(source, target, on_progress, sum(ends.values()), sum(begun.values()))
    for spec, number in parts:
        copying.partition(spec, number, begun[spec.name, number], ends[spec.name, number])
    _check_still(source, topics, ends)
    return Copied(source.log_id, copying.records, copying.fillers, sum(begun.values()), ends)


def ends_of(log: Log, topics: Sequence[TopicSpec]) -> dict[TopicPartition, int]:
    """The ends of all partitions; 0 for topics that the log lacks: a newer release has them."""
    ends: dict[TopicPartition, int] = {}
    for spec in topics:
        ends |= {(spec.name, number): end for number, end in enumerate(_ends(log, spec))}
    return ends


def _ends(log: Log, spec: TopicSpec) -> Sequence[int]:
    try:
        return log.ends(spec.name)
    except UnknownTopic:
        return [0] * spec.partitions


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _check_target_topics(target: Log, topics: Sequence[TopicSpec]) -> None:
    try:
        target.check_topics(topics)
    except TopicsDiffer as error:
        raise CopyRefused(f"the target cannot hold this log: {'; '.join(error.differences)}") from error


def _standing_ends(target: Log, topics: Sequence[TopicSpec], quiet_s: float) -> dict[TopicPartition, int]:
    ends = ends_of(target, topics)
    for _ in range(_QUIET_LOOKS):
        if not any(ends.values()):
            return ends
        time.sleep(quiet_s)
        before, ends = ends, ends_of(target, topics)
        if ends == before:
            return ends
    raise CopyRefused("somebody writes to the target: a server, or another copy")


def _check_begun(source: Source, target: Log, spec: TopicSpec, partition: int, begun: int, end: int) -> None:
    """What the target holds of a partition must be the beginning of what the source holds."""
    which = f"{spec.name}[{partition}]"
    if begun > end:
        raise CopyRefused(
            f"the target's {which} ends at {begun}, behind the source's end {end}: the copy is in use already, or this "
            "log was restored from an older state"
        )
    last = begun - 1
    ours, theirs = (_record_at(log, spec.name, partition, last) for log in (source, target))
    if begun and (wrong := difference(spec, ours, theirs)):
        raise CopyRefused(f"the target is not a copy of this log that was begun: its {which} {last} {wrong}")


def _record_at(log: Log, topic: str, partition: int, offset: int) -> Record | None:
    records = log.read(topic, partition, offset, max_records=1) if offset >= 0 else []
    return records[0] if records and records[0].offset == offset else None


def _check_still(source: Source, topics: Sequence[TopicSpec], ends: Mapping[TopicPartition, int]) -> None:
    later = ends_of(source, topics)
    if more := sum(later.values()) - sum(ends.values()):
        raise CopyRefused(f"{more} records came to this log meanwhile: stop the server, and give the command again")


class _Copying:
    """One run: the offsets that it appends, and how far it is."""

    def __init__(self, source: Source, target: Log, on_progress: OnProgress, total: int, done: int) -> None:
        self._source, self._target = source, target
        self._on_progress, self._total, self._done = on_progress, total, done
        self.records = self.fillers = 0

    def partition(self, spec: TopicSpec, partition: int, begun: int, end: int) -> None:
        """Append what stands from `begun` to `end`. While a batch is on its way the next one is read."""
        underway: Future[list[int]] | None = None
        first = begun
        for batch in _batches(self._dense(spec, partition, begun, end)):
            if underway is not None:
                first = self._arrived(underway, spec, partition, first)
            underway = self._send(batch)
        if underway is not None:
            self._arrived(underway, spec, partition, first)

    def _dense(self, spec: TopicSpec, partition: int, begun: int, end: int) -> Iterator[Append]:
        """One append for each offset."""
        at = begun
        records = records_between(self._source, spec.name, partition, begun, end) if begun < end else iter(())
        for record in records:
            yield from self._filling(spec, partition, record.offset - at)
            if spec.compacted and record.key == FILLER_KEY and not is_filler(record):
                raise CopyRefused(f"{spec.name}[{partition}] {record.offset} has the key of fillers: it would be lost")
            self.records += 1
            yield Append(spec.name, partition, record.key, record.value)
            at = record.offset + 1
        yield from self._filling(spec, partition, end - at)

    def _filling(self, spec: TopicSpec, partition: int, count: int) -> Iterator[Append]:
        self.fillers += count
        return repeat(filler(spec.name, partition), count)

    def _send(self, batch: Sequence[Append]) -> Future[list[int]]:
        while True:
            try:
                return self._target.append(batch)
            except BackPressure:
                time.sleep(_FULL_WAIT_S)

    def _arrived(self, underway: Future[list[int]], spec: TopicSpec, partition: int, first: int) -> int:
        """Wait for a batch that was to begin at `first`; where the next one begins."""
        try:
            offsets = underway.result()
        except AppendFailed as error:
            raise CopyRefused(f"the target does not take records now ({error}): give the command again") from error
        if offsets != list(range(first, first + len(offsets))):
            raise CopyRefused(
                f"somebody else wrote to the target's {spec.name}[{partition}]: a record for {first} came to stand at "
                f"{offsets[0]}. The copy is spoilt: remove it, and begin again"
            )
        self._done += len(offsets)
        self._on_progress(Progress("copied", self._done, self._total))
        return first + len(offsets)


def _batches(appends: Iterator[Append]) -> Iterator[list[Append]]:
    batch: list[Append] = []
    size_bytes = 0
    for append in appends:
        batch.append(append)
        size_bytes += len(append.key) + len(append.value or b"")
        if len(batch) >= BATCH_RECORDS or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def verify_copy(
    source: Source, target: Log, *, on_progress: OnProgress = lambda _: None
) -> dict[TopicPartition, Compared]:
    """Compare the whole source with the target. Raises CopyDiffers, CopyRefused."""
    topics = topics_of(source)
    ends = ends_of(source, topics)
    total, done = sum(ends.values()), 0

    def count(offsets: int) -> None:
        nonlocal done
        done += offsets
        on_progress(Progress("compared", done, total))

    compared = compare(source, target, topics, ends, count)
    _check_still(source, topics, ends)
    return compared

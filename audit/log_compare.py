"""Comparing a copy of a log with its source, offset for offset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from annals.eventlog.api import Log, Record, TopicPartition
from annals.eventlog.filler import is_filler
from annals.eventlog.reading import records_between
from annals.schemas.topics import TopicSpec

DIFFERENCES_MAX = 20
_SAY_EVERY = 1000

# One offset: what stands there in the source, and in the copy.
_Pair = tuple[int, Record | None, Record | None]


class CopyDiffers(Exception):
    """The copy is not the source. `differences` names the first of them, for people."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__("the copy is not like its source:\n" + "\n".join(differences))
        self.differences = tuple(differences)


@dataclass(frozen=True, slots=True)
class Compared:
    """A partition that is equal. `records` stand in both; `gaps` are offsets at which one of them or both hold nothing.

    `chain`: SHA-256 over the records that stand in both, each with its offset: two copies can be told apart by it.
    """

    records: int
    gaps: int
    chain: str


def difference(spec: TopicSpec, ours: Record | None, theirs: Record | None) -> str | None:
    """What is wrong at one offset of the copy (`theirs`); None where nothing is."""
    # Source and copy each remove records of such topics in their own time.
    loses = spec.compacted or spec.retention_ms is not None
    if theirs is None:
        return None if loses else "is missing"
    if ours is None:
        return None if is_filler(theirs) or loses else "holds a record, where the source has none"
    return None if _said(ours) == _said(theirs) else "holds another record than the source"


def _said(record: Record) -> tuple[bytes, bytes | None]:
    return record.key, record.value


def compare(
    source: Log,
    target: Log,
    topics: Sequence[TopicSpec],
    ends: Mapping[TopicPartition, int],
    on_offsets: Callable[[int], None] = lambda _: None,
) -> dict[TopicPartition, Compared]:
    """Compare all partitions up to `ends`. `on_offsets` is told how many more offsets are compared. Raises CopyDiffers.

    What is in memory is bounded, but for the keys of what the copy has compacted away already.
    """
    specs = {spec.name: spec for spec in topics}
    differences: list[str] = []
    compared = {}
    for which, end in ends.items():
        comparing = _Comparing(specs[which[0]], which, end, differences, on_offsets)
        compared[which] = comparing.run(source, target)
    if differences:
        raise CopyDiffers(differences)
    return compared


class _Comparing:
    """One partition."""

    def __init__(
        self,
        spec: TopicSpec,
        which: TopicPartition,
        end: int,
        differences: list[str],
        on_offsets: Callable[[int], None],
    ) -> None:
        self._spec, self._which, self._end = spec, which, end
        self._differences, self._on_offsets = differences, on_offsets
        self._chain = hashlib.sha256()
        # Keys whose record the copy has compacted away: a later one must stand there. Key: offset of the lost record.
        self._superseded: dict[bytes, int] = {}

    def run(self, source: Log, target: Log) -> Compared:
        topic, partition = self._which
        if (has := target.end(topic, partition)) != self._end:
            self._note(has, f"is the copy's end, the source's is {self._end}")
        ours = records_between(source, topic, partition, 0, self._end) if self._end else iter(())
        theirs = records_between(target, topic, partition, 0, min(has, self._end)) if self._end else iter(())
        records = at = said = 0
        for offset, our, their in _side_by_side(ours, theirs):
            if offset > at:
                self._gap(at)
            if wrong := difference(self._spec, our, their):
                self._note(offset, wrong)
            elif our is not None and their is not None:
                records += 1
                self._link(our)
            self._follow_key(our, their)
            at = offset + 1
            if at - said >= _SAY_EVERY:
                self._on_offsets(at - said)
                said = at
        if at < self._end:
            self._gap(at)
        self._on_offsets(self._end - said)
        for offset in self._superseded.values():
            self._note(offset, "is missing, and no later record has its key")
        return Compared(records, self._end - records, self._chain.hexdigest())

    def _gap(self, offset: int) -> None:
        """Neither has anything from `offset` on, for a while."""
        if wrong := difference(self._spec, None, None):
            self._note(offset, wrong)

    def _link(self, record: Record) -> None:
        value = b"" if record.value is None else b"=" + record.value
        self._chain.update(b"%d %d %d " % (record.offset, len(record.key), len(value)) + record.key + value)

    def _follow_key(self, ours: Record | None, theirs: Record | None) -> None:
        if not self._spec.compacted or ours is None or is_filler(ours):
            return
        # Its key lives on in a later record, or ended with a tombstone, which goes too when it is old.
        if theirs is None and ours.value is not None:
            self._superseded[ours.key] = ours.offset
        else:
            self._superseded.pop(ours.key, None)

    def _note(self, offset: int, wrong: str) -> None:
        if len(self._differences) < DIFFERENCES_MAX:
            topic, partition = self._which
            self._differences.append(f"{topic}[{partition}] {offset} {wrong}")


def _side_by_side(ours: Iterator[Record], theirs: Iterator[Record]) -> Iterator[_Pair]:
    """The offsets at which at least one has a record, in order."""
    our, their = next(ours, None), next(theirs, None)
    while our is not None or their is not None:
        if their is None or (our is not None and our.offset < their.offset):
            assert our is not None
            yield our.offset, our, None
            our = next(ours, None)
        elif our is None or their.offset < our.offset:
            yield their.offset, None, their
            their = next(theirs, None)
        else:
            yield our.offset, our, their
            our, their = next(ours, None), next(theirs, None)

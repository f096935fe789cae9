"""The worker of a partition whose facts are folded as they stand: every group but rooms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from annals.database.rows import Rows
from annals.eventlog.api import Record
from annals.projectors.errors import GroupPartition
from annals.projectors.folding import At, Overlay, Projection, Touch
from annals.projectors.groups import Group
from annals.projectors.moved import Moved
from annals.projectors.poison import Decoded, Skips, decoded
from annals.projectors.work import Answers, Applied, Position, Prepared, Wants, Work, hash_of


class PlainWorker:
    """See annals.projectors.work.Worker."""

    def __init__(self, group: Group, partition: int, epoch: int, position: Position, skips: Skips) -> None:
        if group.projection is None:
            raise ValueError(f"group {group.name} has no projection")
        self.epoch = epoch
        self.position = position
        self._group = group
        self._projection: Projection = group.projection
        self._partition = partition
        self._skips = skips

    @property
    def key(self) -> GroupPartition:
        """(group, topic, partition)."""
        return self._group.name, self._group.topic, self._partition

    def prepare(self, records: Sequence[Record]) -> Prepared:
        """See Worker."""
        return Prepared(self._after(records), lambda foreseen, time_is_up: self._work(records))

    def passed(self, position: Position) -> Applied:
        """See Worker."""
        return Applied(position, Rows(), Moved(), 0, commit=lambda _: self._move(position))

    def forget(self) -> None:
        """Nothing is kept between batches."""

    def _work(self, records: Sequence[Record]) -> Work:
        facts, stopped = decoded(records, self._skips)
        overlay = Overlay()
        touches = frozenset(self._touches(facts))
        if touches:
            answers: Answers = yield Wants(touches=touches)
            overlay.learn(touches, answers.rows)
        moved = Moved()
        done = 0
        for fact in facts:
            try:
                self._fold(fact, overlay)
            except Exception as error:
                # A fold that fails here has no room to stop: its partition stops.
                overlay.discard()
                stopped = f"{error!r} at {self._group.topic}[{self._partition}] {fact.record.offset}"
                break
            overlay.keep()
            done += 1
            if fact.fact is not None:
                moved.update(self._projection.moved(fact.fact))
        position = self._after(records[:done])
        return Applied(position, overlay.rows, moved, done, stopped=stopped, commit=lambda _: self._move(position))

    def _touches(self, facts: Sequence[Decoded]) -> set[Touch]:
        touches: set[Touch] = set()
        for item in facts:
            if item.fact is not None:
                touches.update(self._projection.touches(item.fact))
            elif item.is_tombstone:
                touches.update(self._projection.touches_of_key(item.record.key))
        return touches

    def _fold(self, item: Decoded, overlay: Overlay) -> None:
        at = At(self._group.topic, self._partition, item.record.offset)
        if item.fact is not None:
            self._projection.fold(item.fact, at, overlay)
        elif item.is_tombstone:
            self._projection.tombstone(item.record.key, at, overlay)

    def _move(self, position: Position) -> None:
        self.position = position

    def _after(self, records: Sequence[Record]) -> Position:
        if not records:
            return self.position
        last = records[-1]
        last_hash = hash_of(last) if self._group.kept_for_ever else None
        return replace(self.position, next_offset=last.offset + 1, last_hash=last_hash)

"""Taking partitions: one mechanism for start, crash, rebuild and failed commit (DESIGN.md section 5).

1. epoch above the row's own and above any mark on the decisions topic; the old owner's backend is ended
2. a mark on the decisions topic: what a lower epoch writes behind it is void
3. what was decided before the mark is folded, never decided again
4. the loop goes on behind that

A partition that its owner gave back in order has no owner in its row: then nobody is ended.

old owner   ──decide──▶ append ──────────▶ commit ✗ (its row has another epoch; its backend is ended)
topic       ... decisions (epoch 4) ... │ mark 5 │ late decisions (epoch 4): void │ decisions (epoch 5)
new owner   row: epoch 5 ──▶ mark 5 ──▶ fold up to the mark ──▶ decide the rest
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.projectors.errors import (
    CannotTake,
    GivenUp,
    GroupPartition,
    NewerDecideVersion,
    Superseded,
    TakenMeanwhile,
)
from annals.projectors.log_check import check_decisions, check_log
from annals.projectors.position_rows import Row, claim, make, read, release, terminate
from annals.projectors.rooms.decided import MARK_KEY
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.work import Position
from annals.rooms.machine import DECIDE_VERSION
from annals.schemas.codec import decode
from annals.schemas.facts.decisions import Mark


@dataclass(frozen=True, slots=True)
class Taken:
    """A partition that is ours from now on. `mark` is the offset of our mark on the decisions topic, None elsewhere."""

    key: GroupPartition
    epoch: int
    position: Position
    mark: int | None


@dataclass(slots=True)
class _Marks:
    """The highest mark of a decisions topic's partition, of those before `scanned`."""

    scanned: int
    highest: Mark | None = None


class Taking:
    """Takes partitions for one owner, on one connection.

    `shared`: others work beside us, and it is normal that one of them takes what was ours. `still_ours` is asked in
    between, often: it is the sign of life of a process that may read for long.
    """

    def __init__(
        self,
        connection: WriteConnection,
        log: Log,
        decisions: DecisionsLog,
        owner: str,
        still_ours: Callable[[], Collection[GroupPartition]],
        *,
        shared: bool,
    ) -> None:
        self._connection = connection
        self._log = log
        self._decisions = decisions
        self._owner = owner
        self._still_ours = still_ours
        self._shared = shared
        self._marks: dict[GroupPartition, _Marks] = {}

    def look(self, keys: Sequence[GroupPartition]) -> dict[GroupPartition, Row]:
        """The rows of these partitions, made where there were none."""
        rows = read(self._connection)
        # No others: an insert would wait for an owner that stalled between its fence and its commit.
        if missing := [key for key in keys if key not in rows]:
            make(self._connection, self._log.log_id, missing)
            rows = read(self._connection)
        return {key: rows[key] for key in keys}

    def own(self, looked: Mapping[GroupPartition, Row], held: Mapping[GroupPartition, int]) -> list[Taken]:
        """Steps 1 and 2, for partitions as they were looked at: those of them that are still ours.

        Whoever took one since then is not disturbed: only the owner that was there at the look is ended.
        `held`: epochs under which this owner held partitions, and lost the connection.
        Raises CannotTake or GivenUp, with nothing taken.
        """
        self._marks.clear()
        for key, row in looked.items():
            self._check(key, row)
            mark = self._highest_mark(key, row)
            if key in held and not self._shared:
                self._check_not_superseded(key, row, mark, held[key])
        ours = self._still_ours()
        keys = [key for key in looked if key in ours]
        if not keys:
            return []
        terminate(self._connection, [looked[key] for key in keys])
        # The old owner may have committed once more until it ended.
        rows = self.look(keys)
        epochs = {key: self._next_epoch(key, looked[key], rows[key]) for key in keys}
        if not claim(self._connection, self._owner, rows, epochs):
            raise self._overtaken("another process takes partitions at this moment")
        marks = self._mark(epochs)
        return [Taken(key, epochs[key], rows[key].position, marks.get(key)) for key in keys]

    def release(self, epochs: Mapping[GroupPartition, int]) -> None:
        """Say of partitions, which are not written any more, that nobody need be ended to take them."""
        release(self._connection, epochs)

    def _check(self, key: GroupPartition, row: Row) -> None:
        _, topic, partition = key
        # A newer release decided here. What this one decides differently would overrule it.
        if row.decide_version > DECIDE_VERSION:
            raise NewerDecideVersion(
                f"{topic}[{partition}] was decided by version {row.decide_version}; this release has {DECIDE_VERSION}. "
                "Start the newer release again, or set its tables aside (drop the generation's schema)."
            )
        check_log(self._log, key, row)
        if key[0] == "rooms":
            check_decisions(self._log, self._decisions.topic, partition, row)

    def _next_epoch(self, key: GroupPartition, looked: Row, row: Row) -> int:
        if row.epoch != looked.epoch:
            raise self._overtaken(f"{key}: taken by {row.owner} at this moment")
        if row.position != looked.position:
            self._check(key, row)
        mark = self._highest_mark(key, row)
        return max(row.epoch, mark.epoch if mark else 0) + 1

    def _highest_mark(self, key: GroupPartition, row: Row) -> Mark | None:
        """What was read once is not read again: only what came since."""
        group, _, partition = key
        if group != "rooms":
            return None
        marks = self._marks.setdefault(key, _Marks(row.position.decisions_offset))
        end = self._log.end(self._decisions.topic, partition)
        while marks.scanned < end:
            records = self._log.read(self._decisions.topic, partition, marks.scanned)
            if not records:
                break
            for record in records:
                if record.key == MARK_KEY and record.value is not None:
                    mark: Mark = decode(record.value)
                    if marks.highest is None or mark.epoch > marks.highest.epoch:
                        marks.highest = mark
            marks.scanned = records[-1].offset + 1
            self._still_ours()
        return marks.highest

    def _check_not_superseded(self, key: GroupPartition, row: Row, mark: Mark | None, held: int) -> None:
        """Who lost its connection may take again only what nobody took meanwhile: the last one started owns it.

        Not asked among processes that share: there the coordinator says whose it is.
        """
        by_row = row.epoch > held and row.owner != self._owner
        if by_row or (mark is not None and mark.epoch > held and mark.writer != self._owner):
            raise Superseded(f"{key}: taken by {row.owner if by_row else mark and mark.writer}")

    def _overtaken(self, what: str) -> CannotTake | GivenUp:
        return TakenMeanwhile(what) if self._shared else Superseded(what)

    def _mark(self, epochs: Mapping[GroupPartition, int]) -> dict[GroupPartition, int]:
        keys = [key for key in epochs if key[0] == "rooms"]
        marks = [(key[2], Mark(epochs[key], DECIDE_VERSION, self._owner)) for key in keys]
        return dict(zip(keys, self._decisions.write_marks(marks), strict=True)) if marks else {}

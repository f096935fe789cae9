"""The worker of a partition of `rooms`: decides what is new, and folds what was decided before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from annals.database.rows import Rows
from annals.eventlog.api import Log, Record
from annals.projectors.errors import GroupPartition
from annals.projectors.moved import Moved
from annals.projectors.poison import Decoded, Skips, decoded
from annals.projectors.rooms.batch import RoomBatch, StepDone, Surroundings
from annals.projectors.rooms.chains import InRoom, may_be_cited, place
from annals.projectors.rooms.decided import DecidedStep
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.rooms.errands import users_and_errands
from annals.projectors.rooms.facts import Facts, decode_for_fold
from annals.projectors.rooms.fold import StepFacts, fold_step, sources_needed
from annals.projectors.rooms.views import ViewCache
from annals.projectors.work import Answers, Applied, Position, Prepared, TimeIsUp, Wants, Work, hash_of
from annals.rooms.needs import Loaded, Needs
from annals.rooms.view import RoomView, unknown_room
from annals.schemas.facts.rooms import PduFact, RoomFact
from annals.schemas.records import values_under_epoch

GROUP, TOPIC = "rooms", "rooms"
_NO_FACTS: Mapping[int, RoomFact] = {}


@dataclass(frozen=True, slots=True)
class Folded:
    """Steps that were decided before, folded. `records` are their decisions as (room id, record), if they are copied;
    `citing` shall have places."""

    rows: Rows
    moved: Moved
    records: list[tuple[bytes, bytes]]
    citing: list[InRoom]
    steps: int
    last: DecidedStep


class RoomsWorker:
    """See annals.projectors.work.Worker."""

    def __init__(
        self,
        log: Log,
        decisions: DecisionsLog,
        partition: int,
        epoch: int,
        position: Position,
        skips: Skips,
        views: ViewCache,
        is_local: Callable[[str], bool],
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        """`left_out`: offsets of facts that are decided by leaving them out."""
        self.epoch = epoch
        self.position = position
        self._log = log
        self._decisions = decisions
        self._partition = partition
        self._skips = skips
        self._views = views
        self._facts = Facts(log, TOPIC, partition)
        self._folded = Facts(log, TOPIC, partition, decode_for_fold)
        self._around = Surroundings(partition, epoch, is_local, decisions.encoded, self._facts.at, left_out)

    @property
    def key(self) -> GroupPartition:
        """(group, topic, partition)."""
        return GROUP, TOPIC, self._partition

    def prepare(self, records: Sequence[Record]) -> Prepared:
        """See Worker."""
        items, stopped = decoded(records, self._skips)
        facts: list[tuple[int, RoomFact]] = []
        for index, item in enumerate(items):
            if isinstance(item.fact, RoomFact):
                facts.append((item.record.offset, item.fact))
            elif item.fact is not None:
                stopped = f"{TOPIC}[{self._partition}] {item.record.offset} holds a {type(item.fact).__name__}"
                items = items[:index]
                break
        planned = self._after(records[-1]) if records else self.position

        def work(foreseen: Mapping[str, Loaded], time_is_up: TimeIsUp) -> Work:
            return self._work(items, facts, stopped, foreseen, time_is_up)

        return Prepared(planned, work, self._foresee(facts))

    def _foresee(self, facts: Sequence[tuple[int, RoomFact]]) -> Needs:
        """Nearly every PDU is new, and its idempotency key too: the tables must say so."""
        events: set[tuple[str, str]] = set()
        keys: set[tuple[str, str]] = set()
        for _, fact in facts:
            if isinstance(fact, PduFact):
                view = self._view_of(fact.room_id)
                if fact.event_id not in view.events:
                    events.add((fact.room_id, fact.event_id))
                key = fact.envelope.idempotency_key
                if key is not None and key not in view.keys:
                    keys.add((fact.room_id, key))
        return Needs(events=frozenset(events), keys=frozenset(keys))

    def passed(self, position: Position) -> Applied:
        """See Worker. The topic is kept whole, so that this is never asked of it."""
        raise ValueError(f"{TOPIC}[{self._partition}] has a gap before {position.next_offset}")

    def forget(self) -> None:
        """See Worker."""
        self._views.forget(self._partition)
        self._facts = Facts(self._log, TOPIC, self._partition)
        self._folded = Facts(self._log, TOPIC, self._partition, decode_for_fold)
        self._around = replace(self._around, fact_at=self._facts.at)

    def _work(
        self,
        items: Sequence[Decoded],
        facts: Sequence[tuple[int, RoomFact]],
        stopped: str | None,
        foreseen: Mapping[str, Loaded],
        time_is_up: TimeIsUp,
    ) -> Work:
        if not facts:
            return self._applied(items[-1].record if items else None, [], {}, stopped)
        batch = RoomBatch(facts, self._view_of, self._around)
        batch.learn(foreseen)
        while (needs := batch.advance(time_is_up)) is not None:
            answers: Answers = yield Wants(rooms=needs, fact_at=self._facts.at)
            batch.learn(answers.rooms)
        steps, views = batch.finish()
        applied = self._ended(batch, items, facts, steps, views, stopped)
        applied.rows.merge((yield from place([citing for step in steps for citing in step.citing])))
        return applied

    def _ended(
        self,
        batch: RoomBatch,
        items: Sequence[Decoded],
        facts: Sequence[tuple[int, RoomFact]],
        steps: Sequence[StepDone],
        views: Mapping[str, RoomView],
        stopped: str | None,
    ) -> Applied:
        """The batch as far as it was done."""
        if len(steps) == len(facts):
            return self._applied(items[-1].record, steps, views, stopped)
        undone = facts[len(steps)][0]
        unknown = batch.unknown_fact
        stopped = unknown[1] if unknown is not None and unknown[0] == undone else None
        before = [item.record for item in items if item.record.offset < undone]
        return self._applied(before[-1] if before else None, steps, views, stopped)

    def _applied(
        self, last: Record | None, steps: Sequence[StepDone], views: Mapping[str, RoomView], stopped: str | None
    ) -> Applied:
        position = self._after(last) if last is not None else self.position
        rows, moved = Rows(), Moved()
        records: list[tuple[bytes, bytes]] = []
        for step in steps:
            rows.merge(step.rows)
            records.extend(step.records)
            moved.rooms.add(step.room_id)
            moved.users.update(step.users)
            moved.errands.update(step.errands)
        moved.heads.update(_heads(views))

        def commit(decisions_end: int | None) -> None:
            decided_to = position.decisions_offset if decisions_end is None else decisions_end
            self.position = replace(position, decisions_offset=decided_to)
            self._views.keep(self._partition, views)

        appends = self._decisions.append(self._partition, records)
        return Applied(position, rows, moved, len(steps), appends, stopped, commit)

    def fold(self, steps: Sequence[DecidedStep], epoch: int | None = None) -> Folded:
        """Fold what was decided, without deciding. With `epoch`, the decisions are copied to our topic under it.

        Reads nothing that a transaction changes: the one before may still be under way, in another thread.
        """
        folded = Folded(Rows(), Moved(), [], [], len(steps), steps[-1])
        is_local, partition = self._around.is_local, self._partition
        for step in steps:
            fact = self._folded.at(step.offset)
            needed = sources_needed(step.offset, step.decisions)
            others = {source: self._folded.at(source) for source in needed} if needed else _NO_FACTS
            facts = StepFacts(step.offset, fact, others)
            fold_step(facts, step.decisions, partition, is_local, folded.rows)
            if facts.may_hold_state:
                folded.citing.extend(may_be_cited(step.decisions, facts.event_at))
            users, errands = users_and_errands(step.decisions, is_local)
            folded.moved.users.update(users)
            folded.moved.errands.update(errands)
            folded.moved.rooms.add(fact.room_id)
            if epoch is not None:
                _copy(fact.room_id, step, epoch, folded.records)
        return folded

    def applied(self, folded: Folded, marked_epoch: int, *, is_copy: bool) -> Applied:
        """What was folded, to be written after all that was folded before it."""
        position = self._after_step(folded.last, marked_epoch, is_copy=is_copy)

        def commit(decisions_end: int | None) -> None:
            decided_to = position.decisions_offset if decisions_end is None else decisions_end
            self.position = replace(position, decisions_offset=decided_to)

        appends = self._decisions.append(self._partition, folded.records)
        rest = partial(place, folded.citing)
        return Applied(position, folded.rows, folded.moved, folded.steps, appends, None, commit, rest)

    def _after_step(self, last: DecidedStep, marked_epoch: int, *, is_copy: bool) -> Position:
        record = self._log.read(TOPIC, self._partition, last.offset, max_records=1)[0]
        after = self._after(record)
        return after if is_copy else replace(after, decisions_offset=last.end, marked_epoch=marked_epoch)

    def _after(self, record: Record) -> Position:
        was = self.position
        return Position(record.offset + 1, was.decisions_offset, was.marked_epoch, hash_of(record))

    def _view_of(self, room_id: str) -> RoomView:
        return self._views.get(room_id) or unknown_room(room_id)


def _copy(room_id: str, step: DecidedStep, epoch: int, records: list[tuple[bytes, bytes]]) -> None:
    key = room_id.encode()
    for decision, value in zip(step.decisions, step.values, strict=True):
        for record in values_under_epoch(decision, value, epoch):
            records.append((key, record))


def _heads(views: Mapping[str, RoomView]) -> Iterator[tuple[str, str]]:
    for room_id, view in views.items():
        if view.header is not None and view.header.halted_at is None and len(view.header.extremities) == 1:
            yield room_id, view.header.extremities[0]

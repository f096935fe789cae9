"""One batch of one partition of `rooms`: facts are decided in their order, but a room that lacks something is passed.

It waits for the next round while the others go on; what all of them lack is asked for at once. Each step is decided and
folded at once, so that a fold that raises halts its room like a decision that raises. When the time is up the batch
ends after the longest run of offsets that are all done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import structlog

from annals.database.errors import DatabaseError
from annals.database.rows import Rows
from annals.eventlog.errors import LogError
from annals.matrix.quick import quick
from annals.projectors.errors import TornDecisions
from annals.projectors.rooms.chains import InRoom, may_be_cited
from annals.projectors.rooms.errands import users_and_errands
from annals.projectors.rooms.fold import StepFacts, fold_step, sources_needed
from annals.projectors.work import TimeIsUp
from annals.rooms.machine import Decided, UnknownFact, decide, halt, omit
from annals.rooms.needs import Loaded, Needs
from annals.rooms.view import RoomView, learn
from annals.schemas.facts.decisions import Decision
from annals.schemas.facts.rooms import RoomFact
from annals.schemas.position import offset_of, ordinal_of

_log = structlog.get_logger(__name__)

ERROR_CHARS_MAX = 2_000


@quick
@dataclass(frozen=True, slots=True)
class StepDone:
    """A step, decided and folded. `records` are its decisions as (room id, record); `citing` shall have places."""

    offset: int
    room_id: str
    rows: Rows
    users: frozenset[str]
    errands: frozenset[str]
    records: Sequence[tuple[bytes, bytes]]
    citing: Sequence[InRoom] = ()


@dataclass(slots=True)
class _Room:
    """A room's part of the batch. `before` is its view before each step that was done while an earlier fact was not:
    views that nobody goes back to are let go, or thousands of them would lie between what is read."""

    view: RoomView
    before: list[tuple[int, RoomView]] = field(default_factory=list)
    asked: Needs | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a batch needs to know besides its facts. `left_out`: the offsets of facts that are not to be applied."""

    partition: int
    epoch: int
    is_local: Callable[[str], bool]
    encode: Callable[[Decision], list[bytes]]
    fact_at: Callable[[int], RoomFact]
    left_out: frozenset[int] = frozenset()


class NeedsUnanswered(Exception):
    """The machine asks again for what it was just given."""


class RoomBatch:
    """Drives the machine over a batch. Call `advance` with the answers to its last needs until it gives None."""

    def __init__(
        self, facts: Iterable[tuple[int, RoomFact]], view_of: Callable[[str], RoomView], around: Surroundings
    ) -> None:
        self._around = around
        self._facts = list(facts)
        self._undone = self._facts
        self._rooms = {room_id: _Room(view_of(room_id)) for room_id in {fact.room_id for _, fact in self._facts}}
        self.done: dict[int, StepDone] = {}
        self.unknown_fact: tuple[int, str] | None = None
        """The first fact that the machine has no rule for: the partition stops before it."""

    def learn(self, loaded: Mapping[str, Loaded]) -> None:
        """Teach the views what was loaded for them."""
        for room_id, of_room in loaded.items():
            room = self._rooms.get(room_id)
            if room is not None:
                room.view = learn(room.view, of_room)

    def advance(self, time_is_up: TimeIsUp) -> Needs | None:
        """Decide as far as it goes; what is lacked then, or None when the batch is done or its time is up."""
        lacking: dict[str, Needs] = {}
        passed: list[tuple[int, RoomFact]] = []
        for index, (offset, fact) in enumerate(self._undone):
            if self._is_over(offset, time_is_up):
                passed.extend(self._undone[index:])
                break
            if fact.room_id in lacking:
                passed.append((offset, fact))
                continue
            needs = self._step(self._rooms[fact.room_id], fact, offset, in_turn=not passed)
            if needs is not None:
                lacking[fact.room_id] = needs
                passed.append((offset, fact))
        self._undone = passed
        if not passed or self._is_over(passed[0][0], time_is_up):
            return None
        return _union(list(lacking.values()))

    def finish(self) -> tuple[list[StepDone], dict[str, RoomView]]:
        """The steps of the longest run of offsets that are done, in order, and the views after them."""
        steps = []
        for offset, _ in self._facts:
            if offset not in self.done:
                break
            steps.append(self.done[offset])
        end = steps[-1].offset if steps else -1
        views = {}
        for room_id, room in self._rooms.items():
            later = (view for offset, view in room.before if offset > end)
            views[room_id] = next(later, room.view)
        return steps, views

    def _is_over(self, offset: int, time_is_up: TimeIsUp) -> bool:
        """Whether the batch ends before `offset`: its time is up (but its first fact is always decided), or a fact
        stands there that nobody understands."""
        if self.unknown_fact is not None and offset >= self.unknown_fact[0]:
            return True
        return self._facts[0][0] in self.done and time_is_up()

    def _step(self, room: _Room, fact: RoomFact, offset: int, in_turn: bool) -> Needs | None:
        outcome = self._decide(room, fact, offset)
        if isinstance(outcome, Needs) or outcome is None:
            return outcome
        decided, done = outcome
        if not in_turn:
            room.before.append((offset, room.view))
        room.view = decided.view
        room.asked = None
        self.done[offset] = done
        return None

    def _decide(self, room: _Room, fact: RoomFact, offset: int) -> tuple[Decided, StepDone] | Needs | None:
        if room.failure is not None:
            return self._halt(room, fact, offset)
        try:
            if offset in self._around.left_out:
                outcome = omit(room.view, offset, self._around.epoch)
            else:
                outcome = decide(room.view, fact, offset, self._around.epoch)
            if isinstance(outcome, Needs):
                if outcome == room.asked:
                    raise NeedsUnanswered(f"{outcome} (asked twice)")
                room.asked = outcome
                return outcome
            return outcome, self._fold(fact, offset, outcome.decisions)
        except UnknownFact as error:
            if self.unknown_fact is None or offset < self.unknown_fact[0]:
                self.unknown_fact = offset, f"{error!r} at {offset}"
            return None
        except (DatabaseError, LogError, MemoryError):
            raise
        except Exception as error:
            _log.error("room_halted", room_id=fact.room_id, offset=offset, exc_info=error)
            room.failure = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
            return self._halt(room, fact, offset)

    def _halt(self, room: _Room, fact: RoomFact, offset: int) -> tuple[Decided, StepDone] | Needs:
        """Only an exception of the pure code halts. What fails here too is for the whole partition to answer."""
        if room.view.header is None:
            return Needs(rooms=frozenset([fact.room_id]))
        decided = halt(room.view, fact, offset, self._around.epoch, room.failure or "")
        room.failure = None
        return decided, self._fold(fact, offset, decided.decisions)

    def _fold(self, fact: RoomFact, offset: int, decisions: Sequence[Decision]) -> StepDone:
        check_step(offset, decisions)
        others = {source: self._around.fact_at(source) for source in sources_needed(offset, decisions)}
        facts = StepFacts(offset, fact, others)
        rows = fold_step(facts, decisions, self._around.partition, self._around.is_local)
        key = fact.room_id.encode()
        records = [(key, record) for decision in decisions for record in self._around.encode(decision)]
        users, errands = users_and_errands(decisions, self._around.is_local)
        citing = may_be_cited(decisions, facts.event_at) if facts.may_hold_state else ()
        return StepDone(offset, fact.room_id, rows, users, errands, records, citing)


def check_step(offset: int, decisions: Sequence[Decision]) -> None:
    """What readers of the decisions topic rely on; raises TornDecisions."""
    for ordinal, decision in enumerate(decisions):
        if offset_of(decision.position) != offset or ordinal_of(decision.position) != ordinal:
            raise TornDecisions(f"decision {ordinal} of step {offset} stands at {decision.position}")
        if decision.last_of_step != (ordinal == len(decisions) - 1):
            raise TornDecisions(f"step {offset} does not end with its last decision")


def _union(many: Sequence[Needs]) -> Needs:
    if len(many) == 1:
        return many[0]
    return Needs(*(frozenset().union(*(getattr(needs, f.name) for needs in many)) for f in fields(Needs)))

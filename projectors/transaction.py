"""One transaction of the loop: take the positions, load, decide and fold, write, and commit once the log has it all.

    PostgreSQL   BEGIN, take positions, look up what is foreseen     1 round trip
                 (what else is lacked: one round trip a kind)
    log          append the decisions
    PostgreSQL   write the rows, NOTIFY, COMMIT                      1 round trip

and where rows are many:

    log          append the decisions  ┐ at the same time
    PostgreSQL   write the rows        ┘                             a COPY a table
                 NOTIFY, COMMIT                                      1 round trip

Few rows take less time than a round trip of their own, and a few decisions less than the way to the log's thread and
back: who has nothing to do meanwhile appends them itself.

Taking the positions is the fence: a row that is not as its owner left it is not taken, and then nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ARRAY, BigInteger, LargeBinary, SmallInteger, Text

from annals.database.copy_writer import small_statements, write
from annals.database.encoding import encoding_of
from annals.database.plan_age import DISCARD, PlanAge
from annals.database.rows import Rows
from annals.database.text import restore, storable
from annals.database.write_connection import Part, WriteConnection
from annals.projectors.errors import FenceLost, GroupPartition, LogWentBack, StopsHere
from annals.projectors.folding import load_rows
from annals.projectors.moved import Moved
from annals.projectors.notices import CHANNEL, payloads
from annals.projectors.positions.tables import POSITIONS
from annals.projectors.rooms.decisions_log import DecisionsLog
from annals.projectors.rooms.load import load
from annals.projectors.stops import in_force
from annals.projectors.work import Answers, Applied, Position, Prepared, TimeIsUp, Wants, Work, Worker
from annals.rooms.needs import FirstOfKey, Loaded, Needs

# How long a batch works: CPU time of ours. On a machine where others work as well a limit of time passed makes batches
# of a few records, each of which costs PostgreSQL as much as a large one; so that is wider, for what waits for it.
WORK_S_MAX = 0.05
_PASSED_PER_WORK = 5

# All that a projector asks is asked by key, and of tables that may have grown a thousandfold since the plan was made:
# plans are made for the indexes, once and then seldom. (Planning took two thirds of the time of taking one position.)
_PLANS_BY_KEY = (
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET plan_cache_mode = force_generic_plan",
)

# Events are looked up by their id alone, and the room is compared afterwards: while the table is small, any index that
# begins with the room seems as good as the one of both; and the plan stays, when the room has ten thousand events.
_FIRST_PLAN_USES = 16
_PREPARE_TAKE = """
PREPARE take (text[], text[], smallint[], bigint[], bigint[], bigint[], bigint[], bigint[], bytea[],
    text[], text[], text[], text[]) AS
WITH claim(group_name, topic, partition, was, epoch, next_offset, decisions_offset, marked_epoch, last_hash) AS (
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
), taken AS (
    UPDATE positions p SET next_offset = c.next_offset, decisions_offset = c.decisions_offset,
        marked_epoch = c.marked_epoch, last_hash = c.last_hash
    FROM claim c
    WHERE p.group_name = c.group_name AND p.topic = c.topic AND p.partition = c.partition
        AND p.next_offset = c.was AND p.epoch = c.epoch
        AND (p.stop_at IS NULL OR c.next_offset <= p.stop_at
            OR p.stop_until_ms < extract(epoch FROM clock_timestamp()) * 1000)
    RETURNING p.group_name, p.topic, p.partition
)
SELECT 'taken', group_name, topic, partition::bigint, NULL FROM taken
UNION ALL
SELECT 'key', e.room_id, e.idempotency_key, e.source, e.event_id
FROM unnest($10, $11) AS k(room_id, idempotency_key)
JOIN events e ON e.room_id = k.room_id AND e.idempotency_key = k.idempotency_key
UNION ALL
SELECT 'event', e.room_id, e.event_id, 0, NULL
FROM unnest($12, $13) AS n(room_id, event_id)
JOIN events e ON e.event_id = n.event_id AND e.room_id || '' = n.room_id"""

# Its parameters as literals: psycopg2's are expressions, an array of casts each, that PostgreSQL has to work out.
_TEXTS, _OFFSETS = encoding_of(ARRAY(Text())).literal, encoding_of(ARRAY(BigInteger())).literal
_TAKEN_AS = (
    *(_TEXTS, _TEXTS, encoding_of(ARRAY(SmallInteger())).literal),
    *(_OFFSETS, _OFFSETS, _OFFSETS, _OFFSETS, _OFFSETS, encoding_of(ARRAY(LargeBinary())).literal),
    *(_TEXTS, _TEXTS, _TEXTS, _TEXTS),
)
_CLAIMED = len(_TAKEN_AS) - 4


@dataclass(frozen=True, slots=True)
class Job:
    """A partition's part of a transaction."""

    worker: Worker
    prepared: Prepared


class Transactions:
    """Runs transactions on one connection, for one generation."""

    def __init__(self, connection: WriteConnection, generation: str, decisions: DecisionsLog) -> None:
        self._connection = connection
        self._generation = generation
        self._decisions = decisions
        self._plan_age = PlanAge(_FIRST_PLAN_USES)
        connection.execute_many_in_one([*_PLANS_BY_KEY, _PREPARE_TAKE])

    def run(self, jobs: Sequence[Job], work_s_max: float = WORK_S_MAX) -> list[Applied]:
        """Do the jobs' work, all or nothing. Raises FenceLost, StopsHere or LogWentBack, or what database and log
        raise: then nothing is done.

        After an exception other than StopsHere the connection is not to be used again.
        """
        applied = self._worked(jobs, self._take(jobs), work_s_max)
        rows = _rows_of(jobs, applied)
        few = small_statements(rows)
        appends = [append for done in applied for append in done.decisions]
        if few is not None:
            ends = _ends(applied, self._decisions.write_here(appends) if appends else [])
        else:
            appended = self._decisions.write(appends) if appends else None
            write(self._connection, rows)
            ends = _ends(applied, appended.result() if appended else [])
        self._check(jobs, ends)
        self._commit(jobs, applied, few or [])
        for done, end in zip(applied, ends, strict=True):
            done.commit(end)
        return applied

    def decide(self, jobs: Sequence[Job], work_s_max: float = WORK_S_MAX) -> list[Applied]:
        """The jobs' work alone, outside of any transaction: nothing is taken, nothing is written.

        For who writes it later, in one that takes the positions as they were before the jobs were prepared.
        """
        needs = _union(job.prepared.foresee for job in jobs)
        found = self._connection.execute_many_in_one([*self._replan(), _take_statement([], needs)])
        return self._worked(jobs, _foreseen(needs, found), work_s_max)

    def _worked(self, jobs: Sequence[Job], foreseen: Mapping[str, Loaded], work_s_max: float) -> list[Applied]:
        time_is_up = _time_of(work_s_max)
        return self._work([job.prepared.work(foreseen, time_is_up) for job in jobs])

    def _replan(self) -> list[Part]:
        return [DISCARD] if self._plan_age.is_due() else []

    def _take(self, jobs: Sequence[Job]) -> Mapping[str, Loaded]:
        needs = _union(job.prepared.foresee for job in jobs)
        found = self._connection.execute_many_in_one(["BEGIN", *self._replan(), _take_statement(jobs, needs)])
        taken = {(row[1], row[2], row[3]) for row in found if row[0] == "taken"}
        lost = [job.worker.key for job in jobs if job.worker.key not in taken]
        if lost:
            self._raise_if_stopped(jobs, lost)
            raise FenceLost(lost)
        return _foreseen(needs, found)

    def _raise_if_stopped(self, jobs: Sequence[Job], lost: Sequence[GroupPartition]) -> None:
        """A row that is as we left it, but for a stop, is still ours."""
        found = in_force(self._connection)
        ours = {job.worker.key: (job.worker.epoch, job.worker.position.next_offset) for job in jobs}
        if all(key in found and found[key][:2] == ours[key] for key in lost):
            self._connection.rollback()
            raise StopsHere({key: at for key, (_, _, at) in found.items()})

    def _work(self, works: Sequence[Work]) -> list[Applied]:
        """Advance all works together: one round of loading for what all of them lack."""
        done: dict[int, Applied] = {}
        answers: dict[int, Answers | None] = dict.fromkeys(range(len(works)))
        while answers:
            wants: dict[int, Wants] = {}
            for index, answer in answers.items():
                try:
                    wants[index] = next(works[index]) if answer is None else works[index].send(answer)
                except StopIteration as stop:
                    done[index] = stop.value
            answers = dict.fromkeys(wants, self._load(wants) if wants else None)
        return [done[index] for index in range(len(works))]

    def _load(self, wants: Mapping[int, Wants]) -> Answers:
        touches = frozenset().union(*(want.touches for want in wants.values()))
        rows = load_rows(self._connection, touches) if touches else {}
        rooms: dict[str, Loaded] = {}
        facts_apart = {index: want for index, want in wants.items() if want.rooms is not None and want.rooms.facts}
        together = _union(want.rooms for index, want in wants.items() if index not in facts_apart)
        if together:
            rooms.update(load(self._connection, together))
        for want in facts_apart.values():
            if want.rooms is not None:
                rooms.update(load(self._connection, want.rooms, want.fact_at))
        return Answers(rooms, rows)

    def _check(self, jobs: Sequence[Job], ends: Sequence[int | None]) -> None:
        """Decisions that land below what the tables have: the topic was made anew since we took it."""
        for job, end in zip(jobs, ends, strict=True):
            if end is not None and end <= job.worker.position.decisions_offset:
                partition, has = job.worker.key[2], job.worker.position.decisions_offset
                problem = f"decisions were written up to {end}, the tables have them up to {has}"
                raise LogWentBack(self._decisions.topic, partition, problem)

    def _commit(self, jobs: Sequence[Job], applied: Sequence[Applied], first: Sequence[str]) -> None:
        """`first`: what is still to be written."""
        moved = Moved()
        positions = {}
        for job, done in zip(jobs, applied, strict=True):
            _, topic, partition = job.worker.key
            positions[topic, partition] = done.position.next_offset
            moved.update(done.moved)
        notices = payloads(self._generation, positions, moved)
        parts: list[Part] = [("SELECT pg_notify(%s, %s)", (CHANNEL, notice)) for notice in notices]
        self._connection.execute_many_in_one([*first, *parts, "COMMIT"])


def _time_of(work_s_max: float) -> TimeIsUp:
    began_s = time.monotonic()
    work_end_s, end_s = time.thread_time() + work_s_max, began_s + work_s_max * _PASSED_PER_WORK
    look_s = began_s + work_s_max

    def time_is_up() -> bool:
        # Work takes no less time than passes, and what has passed is cheaper to know.
        nonlocal look_s
        now_s = time.monotonic()
        if now_s < look_s:
            return False
        left_s = work_end_s - time.thread_time()
        look_s = now_s + left_s
        return left_s <= 0 or now_s > end_s

    return time_is_up


def _take_statement(jobs: Sequence[Job], needs: Needs) -> str:
    claims: list[tuple[Any, ...]] = []
    for job in jobs:
        was, planned = job.worker.position, job.prepared.planned
        moved = (planned.next_offset, planned.decisions_offset, planned.marked_epoch, planned.last_hash)
        claims.append((*job.worker.key, was.next_offset, job.worker.epoch, *moved))
    columns: list[list[Any]] = [list(column) for column in zip(*claims, strict=True)] or [[] for _ in range(_CLAIMED)]
    for wanted in (needs.keys, needs.events):
        columns += [list(column) for column in zip(*sorted(wanted), strict=True)] if wanted else [[], []]
    literals = [literal(column) for literal, column in zip(_TAKEN_AS, columns, strict=True)]
    return f"EXECUTE take ({', '.join(literals)})"


def _foreseen(needs: Needs, found: Sequence[tuple[Any, ...]]) -> dict[str, Loaded]:
    """What is not here is known; an event that is here is left for the machine to ask for in full."""
    keys: dict[tuple[str, str], FirstOfKey | None] = dict.fromkeys(needs.keys)
    new_events = {(storable(room_id), storable(event_id)): (room_id, event_id) for room_id, event_id in needs.events}
    for kind, stored_room, stored_name, source, event_id in found:
        if kind == "event":
            del new_events[stored_room, stored_name]
        elif kind == "key":
            name = restore(stored_room), restore(stored_name)
            first = keys[name]
            if first is None or source < first.source:
                keys[name] = FirstOfKey(source, restore(event_id))
    by_room: dict[str, tuple[dict[tuple[str, str], None], dict[tuple[str, str], FirstOfKey | None]]] = {}
    for room_id, event_id in new_events.values():
        by_room.setdefault(room_id, ({}, {}))[0][room_id, event_id] = None
    for name, known in keys.items():
        by_room.setdefault(name[0], ({}, {}))[1][name] = known
    return {room_id: Loaded(events=events, keys=of_room) for room_id, (events, of_room) in by_room.items()}


def _rows_of(jobs: Sequence[Job], applied: Sequence[Applied]) -> Rows:
    """All rows of a transaction, positions that are others than planned included."""
    rows = applied[0].rows if len(applied) == 1 else Rows()
    for done in applied if len(applied) > 1 else ():
        rows.merge(done.rows)
    for job, done in zip(jobs, applied, strict=True):
        if done.position != job.prepared.planned:
            group, topic, partition = job.worker.key
            key = {"group_name": group, "topic": topic, "partition": partition}
            rows.update(POSITIONS, key, {f.name: getattr(done.position, f.name) for f in fields(Position)})
    return rows


def _ends(applied: Sequence[Applied], appended: Sequence[int]) -> list[int | None]:
    """Each partition's end of its decisions, None where it made none; `appended`: the offsets of all of them."""
    offsets = iter(appended)
    ends: list[int | None] = []
    for done in applied:
        last = None
        for _ in done.decisions:
            last = next(offsets)
        ends.append(None if last is None else last + 1)
    return ends


def _union(many: Any) -> Needs:
    some = [needs for needs in many if needs is not None]
    if len(some) == 1:
        return some[0]  # type: ignore[no-any-return]
    return Needs(*(frozenset().union(*(getattr(needs, f.name) for needs in some)) for f in fields(Needs)))

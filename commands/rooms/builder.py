"""The builder of a room: one a room and process (DESIGN.md section 7).

It takes all commands that wait at once, chains their events on its head, judges each with the room machine before it is
logged, appends one batch, waits once, and answers all:

    commands ──▶ queue ──▶ [ plan → build → judge ]* ──▶ append ──▶ tables reach it ──▶ outcomes ──▶ answers
                   ▲                                                                        │
                   └───────────────── dropped: its prev event is not what it seemed ────────┘

Two processes make two chains, which the next group merges.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from annals.commands.appending import Appender
from annals.commands.errors import NOT_NOW, Refused, TryAgain
from annals.commands.rooms.outcomes import Outcome, Outcomes, RoomTables
from annals.commands.rooms.plans import Already, Plan, ReadyMade, Sent
from annals.matrix.errors import InvalidEvent
from annals.matrix.room_versions import RoomRules
from annals.rooms.heads import Intent, Signer, build_on, fact_of, foresee
from annals.rooms.needs import Loaded, Needs
from annals.rooms.state import Lacking
from annals.rooms.view import ACCEPTED, DROPPED, RoomView, learn, trim, unknown_room
from annals.schemas.facts.rooms import EventRefused, PduCreated

GROUP_MAX = 100
TRIES_MAX = 5
_NEEDS_ROUNDS_MAX = 50
_ANSWERS: tuple[type[Exception], ...] = (Refused, *NOT_NOW)
_UNPLANNED: tuple[type[Exception], ...] = (Lacking, *_ANSWERS)
#: Stand-ins for offsets that the log has not given yet; above all real ones, so that state ids do not meet.
_FORESEEN_OFFSET = 1 << 40


@dataclass(slots=True)
class Command:
    """A plan on its way, and who waits for its answer."""

    plan: Plan
    answer: asyncio.Future[Sent]
    tries: int = 0
    facts: list[PduCreated] = field(default_factory=list)
    #: (event id, idempotency key) of its events, those that an earlier try has logged included
    made: list[tuple[str, str | None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What builders work with; one a process."""

    appender: Appender
    tables: RoomTables
    signer: Signer
    clock: Callable[[], int]


class RoomBuilder:
    """Turns commands about one room into accepted events."""

    def __init__(self, room_id: str, workshop: Workshop) -> None:
        self._room_id = room_id
        self._workshop = workshop
        self._queue: deque[Command] = deque()
        self._task: asyncio.Task[None] | None = None
        self._view = unknown_room(room_id)
        self._foreseen = _FORESEEN_OFFSET

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._task is None and not self._queue

    def room_moved(self) -> None:
        """Somebody else may have written to the room: look again before building on it."""
        if self.idle:
            self._view = unknown_room(self._room_id)

    async def carry_out(self, plan: Plan) -> Sent:
        """Carry out a plan; raises Refused, or what `errors.NOT_NOW` lists."""
        command = Command(plan, asyncio.get_running_loop().create_future())
        self._queue.append(command)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await command.answer

    async def _work(self) -> None:
        try:
            while self._queue:
                group = [self._queue.popleft() for _ in range(min(GROUP_MAX, len(self._queue)))]
                await self._carry_out_group([command for command in group if not command.answer.done()])
        finally:
            self._task = None

    async def _carry_out_group(self, group: Sequence[Command]) -> None:
        try:
            view = await self._with_keys(self._view, group)
            for command in group:
                view = await self._build(view, command)
            self._view = trim(view)
            built = [command for command in group if command.made and not command.answer.done()]
            if built:
                await self._log(built)
        except Exception as error:  # whatever it is, everybody who waits must hear of it
            self._view = unknown_room(self._room_id)
            for command in group:
                _fail(command, error)

    async def _with_keys(self, view: RoomView, group: Sequence[Command]) -> RoomView:
        """The view with the idempotency keys of the whole group: one read, where each event would ask for its own."""
        load = self._workshop.tables.load
        if view.header is None:
            view = learn(view, await load(Needs(rooms=frozenset([self._room_id]))))
        unknown = frozenset().union(*(_unknown_keys(view, command.plan) for command in group))
        return learn(view, await load(Needs(keys=unknown))) if unknown else view

    async def _build(self, view: RoomView, command: Command) -> RoomView:
        """Plan and build one command; where it is refused, the view stays as it was."""
        try:
            for _ in range(_NEEDS_ROUNDS_MAX):
                try:
                    return self._built(view, command)
                except Lacking as lacking:
                    view = learn(view, await self._workshop.tables.load(lacking.needs))
            raise TryAgain("the room's view has needs without end")
        except _ANSWERS as error:
            _fail(command, error)
        except InvalidEvent as error:
            _fail(command, refusal_of(error))
        return view

    def _built(self, view: RoomView, command: Command) -> RoomView:
        command.facts, command.made = [], []
        plan = command.plan(view)
        if isinstance(plan, Already):
            _settle(command, Sent(()))
            return view
        for wish in plan.wishes:
            view = self._build_wish(view, command, wish)
        return view

    def _build_wish(self, view: RoomView, command: Command, wish: Intent | ReadyMade) -> RoomView:
        key = wish.idempotency_key
        view.known_header()
        if key is not None and (first := view.first_of_key(key)) is not None:
            # A retry: an earlier try has logged this one. Its outcome is asked for like that of a new one.
            command.made.append((first.event_id, key))
            return view
        workshop = self._workshop
        if isinstance(wish, ReadyMade):
            fact = fact_of(wish.event, workshop.appender.envelope(idempotency_key=key))
        else:
            event = build_on(view, wish, _rules(view), workshop.signer, workshop.clock())
            # Made this moment: no table has it. To ask would be in vain, as the next try makes another one, later.
            view = learn(view, Loaded(events={(self._room_id, event.event_id): None}))
            fact = fact_of(event, workshop.appender.envelope(wish.cause, key))
        self._foreseen += 1
        foreseen = foresee(view, fact, self._foreseen)
        if isinstance(foreseen, Needs):
            raise Lacking(foreseen)
        if foreseen.verdict is None or foreseen.verdict.verdict != ACCEPTED:
            raise _forbidden(foreseen.verdict.reason if foreseen.verdict else None)
        command.facts.append(fact)
        command.made.append((fact.event_id, key))
        return foreseen.view

    async def _log(self, built: Sequence[Command]) -> None:
        appender = self._workshop.appender
        facts = [fact for command in built for fact in command.facts]
        if facts:
            await appender.settle(await appender.submit(facts))
        event_ids = [event_id for command in built for event_id, _ in command.made]
        outcomes = await self._workshop.tables.outcomes(self._room_id, event_ids)
        header = self._view.header
        if header is None or outcomes.halted or outcomes.extremities != frozenset(header.extremities):
            self._view = unknown_room(self._room_id)
        for command in built:
            await self._answer(command, outcomes)

    async def _answer(self, command: Command, outcomes: Outcomes) -> None:
        decided = [(event_id, key, outcomes.events.get(event_id)) for event_id, key in command.made]
        bad = [(o.event_id or event_id, key, o) for event_id, key, o in decided if o and o.verdict != ACCEPTED]
        if bad:
            await self._refuse(command, bad)
        elif any(outcome is None for _, _, outcome in decided):
            _fail(command, TryAgain("the room stands still"))
        else:
            _settle(command, Sent(tuple((o.event_id if o else None) or event_id for event_id, _, o in decided)))

    async def _refuse(self, command: Command, bad: Sequence[tuple[str, str | None, Outcome]]) -> None:
        """A logged event of ours was not accepted: make that last; what was only dropped is built anew."""
        self._view = unknown_room(self._room_id)
        appender = self._workshop.appender
        refusals = [
            EventRefused(appender.envelope(cause=event_id), self._room_id, event_id, key, o.rule, o.reason or o.verdict)
            for event_id, key, o in bad
        ]
        await appender.submit_and_settle(refusals)
        command.tries += 1
        if all(outcome.verdict == DROPPED for _, _, outcome in bad) and command.tries < TRIES_MAX:
            self._queue.appendleft(command)
        else:
            _fail(command, _forbidden(bad[0][2].reason))


def _unknown_keys(view: RoomView, plan: Plan) -> frozenset[tuple[str, str]]:
    try:
        planned = plan(view)
    except _UNPLANNED:  # it is heard again when the plan's turn comes
        return frozenset()
    wishes = () if isinstance(planned, Already) else planned.wishes
    keys = {wish.idempotency_key for wish in wishes}
    return frozenset((view.room_id, key) for key in keys if key is not None and key not in view.keys)


def _rules(view: RoomView) -> RoomRules:
    header = view.known_header()
    if header.rules is None:
        raise Refused(404, "M_NOT_FOUND", "Unknown room")
    if header.halted_at is not None:
        raise TryAgain("the room stands still until an operator resumes it")
    return header.rules


def _forbidden(reason: str | None) -> Refused:
    return Refused(403, "M_FORBIDDEN", f"You are not allowed to do this: {reason or 'refused'}")


def refusal_of(error: InvalidEvent) -> Refused:
    """What the client hears of an event that no server would take."""
    if "larger than" in str(error):
        return Refused(413, "M_TOO_LARGE", str(error))
    return Refused(400, "M_BAD_JSON", str(error))


def _settle(command: Command, sent: Sent) -> None:
    if not command.answer.done():
        command.answer.set_result(sent)


def _fail(command: Command, error: Exception) -> None:
    if not command.answer.done():
        command.answer.set_exception(error)


class Builders:
    """The builders of a process, by room; idle ones are forgotten beyond a bound."""

    def __init__(self, workshop: Workshop, kept_max: int = 2_000) -> None:
        self._workshop = workshop
        self._builders: dict[str, RoomBuilder] = {}
        self._kept_max = kept_max

    async def carry_out(self, room_id: str, plan: Plan) -> Sent:
        """Carry out a plan in a room; raises Refused, or what `errors.NOT_NOW` lists."""
        builder = self._builders.pop(room_id, None) or RoomBuilder(room_id, self._workshop)
        self._builders[room_id] = builder
        if len(self._builders) > self._kept_max:
            self._forget_idle()
        return await builder.carry_out(plan)

    def room_moved(self, room_id: str) -> None:
        """To be called when the tables say that a room has moved."""
        builder = self._builders.get(room_id)
        if builder is not None:
            builder.room_moved()

    def _forget_idle(self) -> None:
        for room_id in [room_id for room_id, builder in self._builders.items() if builder.idle]:
            if len(self._builders) <= self._kept_max // 2:
                return
            del self._builders[room_id]

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

from annals.commands.errors import NOT_NOW, Refused, TryAgain
from annals.commands.rooms.outcomes import Outcome, Outcomes, RoomTables
from annals.commands.rooms.plans import Already, Plan, ReadyMade, Sent
from annals.commands.rooms.policy import SignsSoon, Unsigned, signature_for, signed
from annals.matrix.errors import InvalidEvent
from annals.matrix.events import Event
from annals.matrix.policy_servers import PolicyServer
from annals.matrix.room_versions import RoomRules
from annals.projectors.positions.appending import Appender
from annals.rooms.heads import Intent, Signer, build_on, fact_of, foresee
from annals.rooms.needs import Loaded, Needs
from annals.rooms.policy import lacks_signature
from annals.rooms.state import Lacking
from annals.rooms.trimming import trim
from annals.rooms.view import ACCEPTED, DROPPED, RoomView, learn, unknown_room
from annals.schemas.facts.rooms import EventRefused, PduCreated

GROUP_MAX = 100
TRIES_MAX = 5
NEEDS_ROUNDS_MAX = 50


class _NothingToDo(Exception):
    """The plan said so, of the view that it was shown."""


_ANSWERS: tuple[type[Exception], ...] = (Refused, _NothingToDo, *NOT_NOW)
#: Stand-ins for offsets that the log has not given yet; above all real ones, so that state ids do not meet.
FORESEEN_OFFSET = 1 << 40


@dataclass(slots=True)
class Command:
    """A plan on its way, and who waits for its answer."""

    plan: Plan
    answer: asyncio.Future[Sent]
    tries: int = 0
    facts: list[PduCreated] = field(default_factory=list)
    #: (event id, idempotency key) of its events, those that an earlier try has logged included
    made: list[tuple[str, str | None]] = field(default_factory=list)
    #: (room id, idempotency key) of those that were taken for new without a look
    assumed: set[tuple[str, str]] = field(default_factory=set)
    #: by event id, what the room's policy server said of it: its signature, or no; and the time of all events from then
    #: on, so that they are the same when they are built again
    signatures: dict[str, str | Refused] = field(default_factory=dict)
    built_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Workshop:
    """What builders work with; one a process."""

    appender: Appender
    tables: RoomTables
    signer: Signer
    clock: Callable[[], int]
    policy: SignsSoon


class RoomBuilder:
    """Turns commands about one room into accepted events."""

    def __init__(self, room_id: str, workshop: Workshop) -> None:
        self._room_id = room_id
        self._workshop = workshop
        self._queue: deque[Command] = deque()
        self._task: asyncio.Task[None] | None = None
        self._unknown = unknown_room(room_id)
        self._view = self._unknown
        self._foreseen = FORESEEN_OFFSET
        self._head: str | None = None
        self._is_stale = False
        #: Whether all that the view says was read after the group's commands came
        self._is_fresh = True

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._task is None and not self._queue

    def room_moved(self, head: str | None = None) -> None:
        """Somebody may have written to the room: look again before building on it. `head`: its only extremity now,
        where that was said."""
        self._head = head
        if self.idle:
            self._view = self._unknown

    def all_moved(self) -> None:
        """Other tables answer from now on: nothing that is known of the room is known of them."""
        self._head, self._is_stale = None, True

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
            if self._is_stale:
                self._view, self._is_stale = self._unknown, False
            view, self._is_fresh = self._view, self._view is self._unknown
            for command in group:
                view = await self._build(view, command)
            self._view = trim(view)
            built = [command for command in group if command.made and not command.answer.done()]
            if built:
                await self._log(built)
            else:
                # Nothing was logged, so nothing will tell whether the room has moved meanwhile.
                self._view = self._unknown
        except Exception as error:  # whatever it is, everybody who waits must hear of it
            self._view = self._unknown
            for command in group:
                _fail(command, error)

    async def _build(self, view: RoomView, command: Command) -> RoomView:
        """Plan and build one command; where it is refused, the view stays as it was.

        No is said, and that nothing is to be done, of what was read after the command came; else it comes again.
        """
        view, error = await self._try(view, command)
        if isinstance(error, Refused) and command.assumed:
            # A retry of what is logged is answered as it was then, whatever the room allows by now.
            view, error = await self._try(view, command, Needs(keys=frozenset(command.assumed)))
        if isinstance(error, (Refused, _NothingToDo)) and not self._is_fresh:
            # Others may have read from the tables what we have not been told yet, and ask because of it.
            self._is_stale = True
            self._queue.append(command)
        elif isinstance(error, _NothingToDo):
            _settle(command, Sent(()))
        elif error is not None:
            _fail(command, error)
        return view

    async def _try(
        self, view: RoomView, command: Command, lacked: Needs | None = None
    ) -> tuple[RoomView, Exception | None]:
        """The view after a command, or the one before it, with what was learned for it, and why it cannot be."""
        try:
            for _ in range(NEEDS_ROUNDS_MAX):
                if lacked is not None:
                    view = learn(view, await self._workshop.tables.load(lacked))
                try:
                    return self._built(view, command), None
                except Lacking as lacking:
                    lacked = lacking.needs
                except Unsigned as unsigned:
                    lacked = None
                    await self._have_signed(command, unsigned)
            return view, TryAgain("the room's view has needs without end")
        except _ANSWERS as error:
            return view, error
        except InvalidEvent as error:
            return view, refusal_of(error)

    async def _have_signed(self, command: Command, unsigned: Unsigned) -> None:
        command.built_at_ms = unsigned.event.origin_server_ts
        try:
            said: str | Refused = await signature_for(self._workshop.policy, unsigned)
        except Refused as refused:
            said = refused
        command.signatures[unsigned.event.event_id] = said

    def _built(self, view: RoomView, command: Command) -> RoomView:
        command.facts, command.made, command.assumed = [], [], set()
        plan = command.plan(view)
        if isinstance(plan, Already):
            raise _NothingToDo
        for wish in plan.wishes:
            view = self._build_wish(view, command, wish)
        return view

    def _build_wish(self, view: RoomView, command: Command, wish: Intent | ReadyMade) -> RoomView:
        key = wish.idempotency_key
        view.known_header()
        if key is not None and key not in view.keys:
            # Nearly every key is new, and where one is not the tables will say so: nobody waits for a look.
            command.assumed.add((self._room_id, key))
            view = view.with_key(key, None)
        if key is not None and (first := view.first_of_key(key)) is not None:
            # A retry: an earlier try has logged this one. Its outcome is asked for like that of a new one.
            command.made.append((first.event_id, key))
            return view
        workshop = self._workshop
        if isinstance(wish, ReadyMade):
            event = wish.event
            envelope = workshop.appender.envelope(idempotency_key=key)
        else:
            now_ms = workshop.clock() if command.built_at_ms is None else command.built_at_ms
            event = build_on(view, wish, rules_of(view), workshop.signer, now_ms)
            # Made this moment: no table has it. To ask would be in vain, as the next try makes another one, later.
            view = learn(view, Loaded(events={(self._room_id, event.event_id): None}))
            envelope = workshop.appender.envelope(wish.cause, key)
        fact = fact_of(event, envelope)
        self._foreseen += 1
        foreseen = foresee(view, fact, self._foreseen)
        if isinstance(foreseen, Needs):
            raise Lacking(foreseen)
        if foreseen.verdict is None or foreseen.verdict.verdict != ACCEPTED:
            raise forbidden(foreseen.verdict.reason if foreseen.verdict else None)
        if (server := lacks_signature(view, event)) is not None:
            fact = fact_of(self._signed(command, event, server), envelope)
        command.facts.append(fact)
        command.made.append((fact.event_id, key))
        return foreseen.view

    def _signed(self, command: Command, event: Event, server: PolicyServer) -> Event:
        said = command.signatures.get(event.event_id)
        if said is None:
            raise Unsigned(event, server)
        if isinstance(said, Refused):
            raise said
        return signed(event, server, said)

    async def _log(self, built: Sequence[Command]) -> None:
        appender = self._workshop.appender
        facts = [fact for command in built for fact in command.facts]
        if facts:
            await appender.settle(await appender.submit(facts))
        if self._went_as_foreseen(built):
            for command in built:
                _settle(command, Sent(tuple(event_id for event_id, _ in command.made)))
            return
        event_ids = [event_id for command in built for event_id, _ in command.made]
        outcomes = await self._workshop.tables.outcomes(self._room_id, event_ids)
        header = self._view.header
        if header is None or outcomes.halted or outcomes.extremities != frozenset(header.extremities):
            self._view = self._unknown
        for command in built:
            await self._answer(command, outcomes)

    def _went_as_foreseen(self, built: Sequence[Command]) -> bool:
        """Whether the last event of the group is the room's head now: then all are accepted, without a look.

        Each follows the one before, and an event of ours whose prev event is not accepted is dropped.
        """
        if any(len(command.facts) != len(command.made) for command in built):
            return False
        header = self._view.header
        return header is not None and header.extremities == (built[-1].facts[-1].event_id,) == (self._head,)

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
        self._view = self._unknown
        appender = self._workshop.appender
        refusals = [
            EventRefused(appender.envelope(cause=event_id), self._room_id, event_id, key, o.rule, o.reason or o.verdict)
            for event_id, key, o in bad
        ]
        await appender.submit_and_settle(refusals)
        command.tries += 1
        if all(outcome.verdict == DROPPED for _, _, outcome in bad) and command.tries < TRIES_MAX:
            command.built_at_ms = None
            self._queue.appendleft(command)
        else:
            _fail(command, forbidden(bad[0][2].reason))


def rules_of(view: RoomView) -> RoomRules:
    """The rules of a room in which events can be built now; raises Refused and TryAgain."""
    header = view.known_header()
    if header.rules is None:
        raise Refused(404, "M_NOT_FOUND", "Unknown room")
    if header.halted_at is not None:
        raise TryAgain("the room stands still until an operator resumes it")
    return header.rules


def forbidden(reason: str | None) -> Refused:
    """What somebody hears whose event the room does not accept."""
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

    def room_moved(self, room_id: str, head: str | None = None) -> None:
        """To be called when the tables say that a room has moved, before anyone who waits for that hears of it."""
        builder = self._builders.get(room_id)
        if builder is not None:
            builder.room_moved(head)

    def all_moved(self) -> None:
        """The same of every room: another generation serves, or nobody knows what moved."""
        for builder in self._builders.values():
            builder.all_moved()

    def _forget_idle(self) -> None:
        for room_id in [room_id for room_id, builder in self._builders.items() if builder.idle]:
            if len(self._builders) <= self._kept_max // 2:
                return
            del self._builders[room_id]

"""Filling what one room lacks, from the first question to the last fact.

    wanted as prev of what was pushed   ─▶ get_missing_events of its origin, then of others
    wanted as prev of what we pulled    ─▶ again, a few times; then an anchor: the event, and the state before it; where
                                           nobody has it, what we pulled above it is the anchor
    wanted as auth event                ─▶ event_auth of the event that cites it
    what nobody has                     ─▶ GapAbandoned

The tables say after each answer what is still lacking: whatever kills this, the next one goes on from there. That a
*pushed* event still lacks something when its sender was asked ends in giving it up: a sender shall not dictate by it
what we believe of the room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from annals.federation.errors import BadAnswer, FederationError, Refused
from annals.ingest.fetchers.anchors import Anchors
from annals.ingest.fetchers.answers import Answers, Source
from annals.ingest.fetchers.by_id import ById, Reading
from annals.ingest.fetchers.graph import by_auth, by_prev, ordered, reached, well_founded
from annals.ingest.fetchers.origins import BACKFILL, MISSING_EVENTS, Brought, Origins
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.room_gaps import (
    RoomGaps,
    Waiting,
    first_waiting,
    gaps_of,
    is_being_entered,
    placed,
    servers_in,
    waiting_for,
)
from annals.ingest.verification import Verified
from annals.matrix.events import Event
from annals.schemas.facts.rooms import GapAbandoned

_logger = structlog.get_logger(__name__)

AUTH = "auth"
LATEST_MAX = 20
#: Events per question for missing ones, and questions for the gaps that one server brought: what lies deeper gets an
#: anchor.
MISSING_EVENTS_LIMIT = 20
MISSING_EVENTS_ROUNDS = 5
SERVERS_PER_QUESTION = 3
#: Events of a run that are fetched by their ids, as they may stand on what we have; and anchors.
SINGLES_PER_RUN = 200
ANCHORS_PER_RUN = 20
AUTH_PER_RUN = 40
#: Parked events among which one is looked for that can take the place of what nobody has.
STAND_INS_MAX = 500
#: Auth events of one answer: a room that we are in lacks few.
AUTH_EVENTS_MAX = 2_000
ROUNDS_MAX = 80
#: Within what the follower gives a run (follower.RUN_S_MAX).
LAST_TRY_S = 150.0

NOT_IN_ROOM, NOBODY_HAS_IT, TOO_MUCH = "not_in_room", "nobody_has_it", "too_much"


class Unanswered(Exception):
    """No server could be asked now that might know: to be tried again later."""


class NotYet(Exception):
    """A user of ours is about to come into the room: what it lacks then shows when that is done."""


@dataclass(slots=True)
class _Run:
    """What was tried for a room in one run."""

    asked_missing: set[str] = field(default_factory=set)
    asked_auth: set[str] = field(default_factory=set)
    asked_single: set[str] = field(default_factory=set)
    singles: dict[str, Verified] = field(default_factory=dict)
    anchored: set[str] = field(default_factory=set)
    pulled: set[str] = field(default_factory=set)
    """Events that this run asked for and logged: where they had been pushed before, the log's first fact says so."""
    missing_rounds: Counter[Brought | None] = field(default_factory=Counter)
    """By who brought what waits: however many servers did, each is asked about its own."""
    unanswered: bool = False
    """To some question there was no answer of anybody, not even a refusal."""

    @property
    def asked(self) -> set[str]:
        """Events that servers were asked about."""
        return self.asked_missing | self.asked_auth | self.asked_single | self.anchored

    @property
    def is_spent(self) -> bool:
        """Whether there may be more to ask about than a run may ask."""
        spent = len(self.asked_single) >= SINGLES_PER_RUN or len(self.anchored) >= ANCHORS_PER_RUN
        return spent or len(self.asked_auth) >= AUTH_PER_RUN


@dataclass(frozen=True, slots=True)
class _Look:
    """What the room lacks, with who brought those that wait."""

    gaps: RoomGaps
    rules_source: Callable[[str, str], Source]
    brought: dict[str, Brought]
    servers: tuple[str, ...]


class Filler:
    """Fills rooms. `us`: our server name, which is not asked."""

    def __init__(
        self,
        us: str,
        questions: Questions,
        answers: Answers,
        database: Reading,
        origins: Origins,
        last_try_s: float = LAST_TRY_S,
    ) -> None:
        self._us, self._questions, self._answers = us, questions, answers
        self._last_try_s = last_try_s
        self._database, self._origins = database, origins
        self._by_id = ById(questions, answers, database)
        self._anchors = Anchors(self._by_id)

    async def fill(self, room_id: str, last_try: bool = False) -> None:
        """Ask until nothing is lacking, or give up what cannot be had. Raises Unanswered where servers that may have
        it cannot be reached now, but on the `last_try`; NotYet where a handshake is under way."""
        if not last_try:
            await self._fill(room_id, last_try)
            return
        try:
            async with asyncio.timeout(self._last_try_s) as time:
                await self._fill(room_id, last_try)
        except TimeoutError:
            if not time.expired():
                raise
            # Servers that answer as slowly as they may would keep the room at it for ever.
            await self._give_up(room_id)

    async def _fill(self, room_id: str, last_try: bool) -> None:
        run = _Run()
        for _ in range(ROUNDS_MAX):
            gaps = await self._database.read(lambda snapshot: gaps_of(snapshot, room_id))
            if gaps is None:
                return
            if not gaps.is_in or gaps.rules is None:
                if await self._database.read(lambda snapshot: is_being_entered(snapshot, room_id)):
                    raise NotYet(room_id)
                await self._abandon(room_id, (*gaps.prev, *gaps.auth), NOT_IN_ROOM)
                continue
            look = await self._look(gaps)
            if await self._auth(look, run) or await self._missing(look, run):
                continue
            if await self._singles(look, run) or await self._anchor(look, run):
                continue
            if run.unanswered and not last_try:
                raise Unanswered(room_id)
            if await self._stand_in(look, run):
                continue
            wanted = (*gaps.prev, *gaps.auth)
            later = [event_id for event_id in wanted if run.is_spent and event_id not in run.asked]
            await self._abandon(room_id, wanted if last_try else [e for e in wanted if e not in later], NOBODY_HAS_IT)
            if later and not last_try:
                raise Unanswered(room_id)
        if await self._give_up(room_id):
            raise Unanswered(room_id)

    async def _give_up(self, room_id: str) -> bool:
        """Abandon what a look takes up of what is lacking still; whether that is anything."""
        gaps = await self._database.read(lambda snapshot: gaps_of(snapshot, room_id))
        if gaps is not None:
            await self._abandon(room_id, (*gaps.prev, *gaps.auth), TOO_MUCH)
        return gaps is not None

    async def origin_of(self, room_id: str) -> str | None:
        """Which server brought the first event that waits in the room, by its fact on the log."""
        at = await self._database.read(lambda snapshot: first_waiting(snapshot, room_id))
        found = await self._origins.of([at]) if at is not None else {}
        return found[at].origin if at in found else None

    async def _look(self, gaps: RoomGaps) -> _Look:
        servers = await self._database.read(lambda snapshot: servers_in(snapshot, gaps.room_id))
        rules = gaps.rules
        assert rules is not None

        def source(server: str, via: str) -> Source:
            return Source(gaps.room_id, rules, gaps.create_event_id, server, via)

        brought = await self._brought(gaps.waiting)
        return _Look(gaps, source, brought, tuple(server for server in servers if server != self._us))

    async def _brought(self, waiting: Sequence[Waiting]) -> dict[str, Brought]:
        found = await self._origins.of(dict.fromkeys(parked.at for parked in waiting))
        return {parked.event_id: found[parked.at] for parked in waiting if parked.at in found}

    # Of each kind of question: True if something new was tried, so that the tables are to be looked at again.

    async def _auth(self, look: _Look, run: _Run) -> bool:
        for event_id in look.gaps.auth:
            waiting = [parked for parked in look.gaps.behind(event_id) if event_id in _cites(parked)]
            for parked in waiting[:1]:
                if event_id not in run.asked_auth and len(run.asked_auth) < AUTH_PER_RUN:
                    run.asked_auth.update(parked.missing & set(look.gaps.auth))

                    async def ask(server: str, of: Waiting = parked) -> bool:
                        return await self._ask_auth(look.rules_source(server, "event_auth"), of)

                    await self._ask_some(self._candidates(look, [parked]), ask, run)
                    return True
        return False

    async def _ask_auth(self, source: Source, parked: Waiting) -> bool:
        """Ask for what one event cites; True if all of it is here now."""
        came: dict[str, Event] = {}
        try:
            pdus = await self._questions.event_auth(source.server, source.room_id, parked.event_id)
            came = await self._answers.by_id(source.rules, pdus)
        except Refused as error:
            if not error.is_final:
                raise
        cited = _cites(parked)
        known = await self._by_id.present(source.room_id, {*came, *cited})
        # What hangs together with the event by way of what we lack: the rest of an answer is of no use.
        unknown = {event_id: event for event_id, event in came.items() if event_id not in known}
        lacking = reached(unknown, cited, AUTH_EVENTS_MAX, by_auth)
        found = await self._answers.verified(source, [event.pdu for event in lacking])
        others = sorted(cited - known - found.keys())
        if others:
            found |= await self._by_id.fetch(source, others)
        closed = await self._by_id.close(source, found, known)
        kept = well_founded((verified.event for verified in closed.found.values()), closed.here)
        await self._answers.write(self._answers.facts(source, kept, closed.found, AUTH))
        return cited <= closed.here | {event.event_id for event in kept}

    async def _missing(self, look: _Look, run: _Run) -> bool:
        """Ask for what lies between what we have and what was sent to us; not below what backfill brought."""
        latest = [
            parked
            for parked in look.gaps.waiting
            if self._purpose(look, run, parked) != BACKFILL
            and parked.missing & set(look.gaps.prev)
            and not parked.missing & set(look.gaps.prev) <= run.asked_missing
            and run.missing_rounds[look.brought.get(parked.event_id)] < MISSING_EVENTS_ROUNDS
        ]
        if not latest:
            return False
        first = look.brought.get(latest[0].event_id)
        # Who brought the first of them is asked about all that it brought.
        latest = [parked for parked in latest if look.brought.get(parked.event_id) == first][:LATEST_MAX]
        wanted = {event_id for parked in latest for event_id in parked.missing}
        run.asked_missing |= wanted
        run.missing_rounds[first] += 1

        async def ask(server: str) -> bool:
            return await self._ask_missing(look.rules_source(server, "get_missing_events"), look, latest, run)

        await self._ask_some(self._candidates(look, latest), ask, run)
        return True

    async def _ask_missing(self, source: Source, look: _Look, latest: Sequence[Waiting], run: _Run) -> bool:
        """True if the server had something that we lack."""
        gaps = look.gaps
        pdus = await self._questions.missing_events(
            source.server,
            source.room_id,
            gaps.extremities,
            [parked.event_id for parked in latest],
            MISSING_EVENTS_LIMIT,
            gaps.min_depth,
        )
        found = await self._answers.verified(source, pdus)
        starts = [event_id for parked in latest for event_id in parked.prev_events]
        near = reached({i: verified.event for i, verified in found.items()}, starts, MISSING_EVENTS_LIMIT)
        if len(near) < MISSING_EVENTS_LIMIT:
            # That was all: what it still leads to is not worth the same question again.
            run.asked_missing.update(other for event in near for other in event.prev_events)
        here = await self._database.read(
            lambda snapshot: placed(snapshot, source.room_id, [event.event_id for event in near])
        )
        new = [event for event in ordered(near, by_prev) if event.event_id not in here]
        run.pulled.update(event.event_id for event in new)
        await self._answers.write(self._answers.facts(source, new, found, MISSING_EVENTS))
        return bool(new)

    async def _singles(self, look: _Look, run: _Run) -> bool:
        """Ask for the wanted events themselves: where a fork has many ends, they stand on what we have by now."""
        wanted = [
            event_id
            for event_id in look.gaps.prev
            if event_id not in run.asked_single
            and any(self._purpose(look, run, parked) == MISSING_EVENTS for parked in look.gaps.behind(event_id))
        ][: SINGLES_PER_RUN - len(run.asked_single)]
        if not wanted:
            return False
        run.asked_single.update(wanted)

        async def ask(server: str) -> bool:
            return await self._ask_singles(look.rules_source(server, "event"), wanted, run)

        await self._ask_some(self._candidates(look, look.gaps.behind(wanted[0])), ask, run)
        return True

    async def _ask_singles(self, source: Source, wanted: Sequence[str], run: _Run) -> bool:
        """Log those of them that lack nothing. True if the server has some of them at all."""
        found = await self._by_id.fetch(source, wanted)
        run.singles |= found
        prev = {other for verified in found.values() for other in verified.event.prev_events}
        here = await self._database.read(lambda snapshot: placed(snapshot, source.room_id, prev))
        new = well_founded((verified.event for verified in found.values()), here, by_prev)
        run.pulled.update(event.event_id for event in new)
        await self._answers.write(self._answers.facts(source, new, found, MISSING_EVENTS))
        return bool(found)

    async def _anchor(self, look: _Look, run: _Run) -> bool:
        for event_id in look.gaps.prev:
            above = [parked for parked in look.gaps.behind(event_id) if self._purpose(look, run, parked) is not None]
            if not above or event_id in run.anchored or len(run.anchored) >= ANCHORS_PER_RUN:
                continue
            run.anchored.add(event_id)

            async def ask(server: str, wanted: str = event_id) -> bool:
                return await self._anchors.set(look.rules_source(server, "state_ids"), wanted, run.singles.get(wanted))

            await self._ask_some(self._candidates(look, above), ask, run)
            return True
        return False

    async def _stand_in(self, look: _Look, run: _Run) -> bool:
        """What nobody has, or has none that passes, is passed over: the nearest event above it that we pulled, and that
        lacks nothing else, becomes an anchor. Else one event that we cannot take would keep all that follows it out of
        the room, for good."""
        room_id, seen = look.gaps.room_id, set[str]()
        waiting = look.gaps.waiting
        while waiting and len(run.anchored) < ANCHORS_PER_RUN and len(seen) < STAND_INS_MAX:
            for parked in waiting:
                if parked.event_id not in run.anchored and self._purpose(look, run, parked) is not None:
                    run.anchored.add(parked.event_id)
                    await self._ask_some(self._candidates(look, [parked]), partial(self._ask_anchor, look, parked), run)
                    return True
            seen.update(parked.event_id for parked in waiting)
            behind = await self._database.read(partial(waiting_for, room_id=room_id, event_ids=list(seen)))
            waiting = tuple(parked for parked in behind if parked.event_id not in seen)
            look.brought.update(await self._brought(waiting))
        return False

    async def _ask_anchor(self, look: _Look, parked: Waiting, server: str) -> bool:
        return await self._anchors.set(look.rules_source(server, "state_ids"), parked.event_id)

    def _purpose(self, look: _Look, run: _Run, parked: Waiting) -> str | None:
        """What we pulled it for; None: it was pushed. An outlier of before says by its first fact what that was."""
        if parked.backfilled:
            return BACKFILL
        brought = look.brought.get(parked.event_id)
        if parked.event_id in run.pulled or (brought is not None and brought.purpose == MISSING_EVENTS):
            return MISSING_EVENTS
        return None

    def _candidates(self, look: _Look, waiting: Iterable[Waiting]) -> list[str]:
        """Who brought them first, then servers of the room."""
        origins = [look.brought[parked.event_id].origin for parked in waiting if parked.event_id in look.brought]
        return [server for server in dict.fromkeys((*origins, *look.servers)) if server != self._us]

    async def _ask_some(self, servers: Sequence[str], ask: Callable[[str], Awaitable[bool]], run: _Run) -> None:
        """Ask one after the other until one had what was asked for."""
        answered = not servers
        for server in self._questions.servers.willing(servers, SERVERS_PER_QUESTION):
            try:
                if await ask(server):
                    return
                answered = True
            except FederationError as error:
                _logger.info("gap_question_failed", server=server, error=error.reason)
                answered |= isinstance(error, BadAnswer) or (isinstance(error, Refused) and error.is_final)
        run.unanswered |= not answered

    async def _abandon(self, room_id: str, event_ids: Sequence[str], reason: str) -> None:
        """Give up what lacks these: a fact, and what waits for them is dropped."""
        if not event_ids:
            return
        _logger.info("gap_abandoned", room_id=room_id, count=len(event_ids), reason=reason)
        envelope = self._answers.appender.envelope()
        await self._answers.write([GapAbandoned(envelope, room_id, tuple(event_ids), reason)])


def _cites(parked: Waiting) -> set[str]:
    return set(parked.auth_events) & parked.missing

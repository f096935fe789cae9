"""The kinds of questions about what a room lacks, each asked of some servers until one has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from annals.federation.errors import BadAnswer, FederationError, Refused
from annals.ingest.fetchers.anchors import Anchors
from annals.ingest.fetchers.answers import Answers, Source
from annals.ingest.fetchers.by_id import ById, Reading
from annals.ingest.fetchers.graph import by_auth, by_prev, ordered, reached, well_founded
from annals.ingest.fetchers.origins import BACKFILL, MISSING_EVENTS, Brought, Origins
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.room_gaps import Waiting, placed, waiting_for
from annals.ingest.fetchers.runs import Look, Run
from annals.matrix.events import Event

_logger = structlog.get_logger(__name__)

AUTH = "auth"
LATEST_MAX = 20
#: Events per question for missing ones, and questions for the gaps that one server brought: what lies deeper gets an
#: anchor.
MISSING_EVENTS_LIMIT = 20
MISSING_EVENTS_ROUNDS = 5
SERVERS_PER_QUESTION = 3
#: Parked events among which one is looked for that can take the place of what nobody has.
STAND_INS_MAX = 500
#: Auth events of one answer: a room that we are in lacks few.
AUTH_EVENTS_MAX = 2_000


class Asking:
    """Asks other servers about one room at a time, and logs what they had."""

    def __init__(self, questions: Questions, answers: Answers, database: Reading, origins: Origins) -> None:
        self._questions, self._answers = questions, answers
        self._database, self._origins = database, origins
        self._by_id = ById(questions, answers, database)
        self._anchors = Anchors(self._by_id)

    async def brought(self, waiting: Sequence[Waiting]) -> dict[str, Brought]:
        """Who brought each of them; events of ours are not in it."""
        found = await self._origins.of(dict.fromkeys(parked.at for parked in waiting))
        return {parked.event_id: found[parked.at] for parked in waiting if parked.at in found}

    # Of each kind of question: True if something new was tried, so that the tables are to be looked at again.

    async def auth(self, look: Look, run: Run) -> bool:
        for event_id in look.gaps.auth:
            waiting = [parked for parked in look.gaps.behind(event_id) if event_id in _cites(parked)]
            for parked in waiting[:1]:
                if event_id not in run.asked_auth and run.auth_left > 0:
                    run.asked_auth.update(parked.missing & set(look.gaps.auth))

                    async def ask(server: str, of: Waiting = parked) -> bool:
                        return await self._ask_auth(look.source(server, "event_auth"), of)

                    await self._ask_some(look.candidates([parked]), ask, run)
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

    async def missing(self, look: Look, run: Run) -> bool:
        """Ask for what lies between what we have and what was sent to us; not below what backfill brought."""
        latest = [
            parked
            for parked in look.gaps.waiting
            if look.purpose(run, parked) != BACKFILL
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
            return await self._ask_missing(look.source(server, "get_missing_events"), look, latest, run)

        await self._ask_some(look.candidates(latest), ask, run)
        return True

    async def _ask_missing(self, source: Source, look: Look, latest: Sequence[Waiting], run: Run) -> bool:
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

    async def singles(self, look: Look, run: Run) -> bool:
        """Ask for the wanted events themselves: where a fork has many ends, they stand on what we have by now."""
        wanted = [
            event_id
            for event_id in look.gaps.prev
            if event_id not in run.asked_single
            and any(look.purpose(run, parked) == MISSING_EVENTS for parked in look.gaps.behind(event_id))
        ][: run.singles_left]
        if not wanted:
            return False
        run.asked_single.update(wanted)

        async def ask(server: str) -> bool:
            return await self._ask_singles(look.source(server, "event"), wanted, run)

        await self._ask_some(look.candidates(look.gaps.behind(wanted[0])), ask, run)
        return True

    async def _ask_singles(self, source: Source, wanted: Sequence[str], run: Run) -> bool:
        """Log those of them that lack nothing. True if the server has some of them at all."""
        found = await self._by_id.fetch(source, wanted)
        run.singles |= found
        prev = {other for verified in found.values() for other in verified.event.prev_events}
        here = await self._database.read(lambda snapshot: placed(snapshot, source.room_id, prev))
        new = well_founded((verified.event for verified in found.values()), here, by_prev)
        run.pulled.update(event.event_id for event in new)
        await self._answers.write(self._answers.facts(source, new, found, MISSING_EVENTS))
        return bool(found)

    async def anchor(self, look: Look, run: Run) -> bool:
        for event_id in look.gaps.prev:
            above = [parked for parked in look.gaps.behind(event_id) if look.purpose(run, parked) is not None]
            if not above or event_id in run.anchored or run.anchors_left <= 0:
                continue
            run.anchored.add(event_id)

            async def ask(server: str, wanted: str = event_id) -> bool:
                return await self._anchors.set(look.source(server, "state_ids"), wanted, run.singles.get(wanted))

            await self._ask_some(look.candidates(above), ask, run)
            return True
        return False

    async def stand_in(self, look: Look, run: Run) -> bool:
        """What nobody has, or has none that passes, is passed over: the nearest event above it that we pulled, and that
        lacks nothing else, becomes an anchor. Else one event that we cannot take would keep all that follows it out of
        the room, for good."""
        room_id, seen = look.gaps.room_id, set[str]()
        waiting = look.gaps.waiting
        while waiting and run.anchors_left > 0 and len(seen) < STAND_INS_MAX:
            for parked in waiting:
                if parked.event_id not in run.anchored and look.purpose(run, parked) is not None:
                    run.anchored.add(parked.event_id)
                    await self._ask_some(look.candidates([parked]), partial(self._ask_anchor, look, parked), run)
                    return True
            seen.update(parked.event_id for parked in waiting)
            behind = await self._database.read(partial(waiting_for, room_id=room_id, event_ids=list(seen)))
            waiting = tuple(parked for parked in behind if parked.event_id not in seen)
            look.brought.update(await self.brought(waiting))
        return False

    async def _ask_anchor(self, look: Look, parked: Waiting, server: str) -> bool:
        return await self._anchors.set(look.source(server, "state_ids"), parked.event_id)

    async def _ask_some(self, servers: Sequence[str], ask: Callable[[str], Awaitable[bool]], run: Run) -> None:
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


def _cites(parked: Waiting) -> set[str]:
    return set(parked.auth_events) & parked.missing

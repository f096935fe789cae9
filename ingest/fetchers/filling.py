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
from collections.abc import Sequence

import structlog

from annals.ingest.fetchers.answers import Answers
from annals.ingest.fetchers.asking import Asking
from annals.ingest.fetchers.by_id import Reading
from annals.ingest.fetchers.origins import Origins
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.room_gaps import RoomGaps, first_waiting, gaps_of, is_being_entered, servers_in
from annals.ingest.fetchers.runs import Look, Run
from annals.schemas.facts.rooms import GapAbandoned

_logger = structlog.get_logger(__name__)

ROUNDS_MAX = 80
#: Within what the follower gives a run (follower.RUN_S_MAX).
LAST_TRY_S = 150.0

NOT_IN_ROOM, NOBODY_HAS_IT, TOO_MUCH = "not_in_room", "nobody_has_it", "too_much"


class Unanswered(Exception):
    """No server could be asked now that might know: to be tried again later."""


class NotYet(Exception):
    """A user of ours is about to come into the room: what it lacks then shows when that is done."""


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
        self._us, self._answers = us, answers
        self._last_try_s = last_try_s
        self._database, self._origins = database, origins
        self._asking = Asking(questions, answers, database, origins)

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
        run = Run()
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
            if await self._asking.auth(look, run) or await self._asking.missing(look, run):
                continue
            if await self._asking.singles(look, run) or await self._asking.anchor(look, run):
                continue
            if run.unanswered and not last_try:
                raise Unanswered(room_id)
            if await self._asking.stand_in(look, run):
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

    async def _look(self, gaps: RoomGaps) -> Look:
        servers = await self._database.read(lambda snapshot: servers_in(snapshot, gaps.room_id))
        return Look(self._us, gaps, await self._asking.brought(gaps.waiting), tuple(servers))

    async def _abandon(self, room_id: str, event_ids: Sequence[str], reason: str) -> None:
        """Give up what lacks these: a fact, and what waits for them is dropped."""
        if not event_ids:
            return
        _logger.info("gap_abandoned", room_id=room_id, count=len(event_ids), reason=reason)
        envelope = self._answers.appender.envelope()
        await self._answers.write([GapAbandoned(envelope, room_id, tuple(event_ids), reason)])

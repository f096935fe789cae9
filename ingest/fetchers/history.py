"""Backfill: the past of a room, fetched when a client pages to the end of what we have.

    edges (prev_events that we lack) ─▶ /backfill of a few servers ─▶ verified ─▶ on the log, oldest first
        ─▶ what their lowest ones lack is `wanted`, and gets an anchor as any gap does ─▶ placed: the page is read again

An event that fails checks is passed over (passing.py): else it would hide all that was before it, for good. What
follows it gets an anchor, as it does in a gap (`Filler._stand_in`).

Runs in `api`, within the time that a client waits. That nobody had more is remembered for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from annals.database.errors import DatabaseError
from annals.database.snapshot import Snapshot
from annals.federation.errors import FederationError
from annals.ingest.fetchers.answers import Answers, Source
from annals.ingest.fetchers.by_id import Reading
from annals.ingest.fetchers.graph import ordered, reached
from annals.ingest.fetchers.origins import BACKFILL
from annals.ingest.fetchers.passing import PassedOver, behind
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.room_gaps import RoomFacts, parked, placed, room_facts
from annals.matrix.events import Event
from annals.projectors.positions.errors import NOT_NOW

_logger = structlog.get_logger(__name__)

EVENTS_MIN, EVENTS_MAX = 50, 100
EDGES_MAX = 10
SERVERS_MAX = 5
WAIT_S = 10.0
IN_VAIN_S = 60.0
ROOMS_KEPT = 2_000

#: Nothing is wrong with the question: it cannot be answered now.
NOT_NOW_HERE: tuple[type[Exception], ...] = (TimeoutError, DatabaseError, *NOT_NOW)


class Notices(Protocol):
    """Who tells what moved (projectors.positions.reached.Reached)."""

    def subscribe(self, subscriber: Callable[..., None]) -> Callable[[], None]:
        """Call with every notice; the result ends that."""
        ...


class History:
    """Fetches the past of rooms. Lives on one event loop."""

    def __init__(
        self,
        us: str,
        questions: Questions,
        answers: Answers,
        database: Reading,
        notices: Notices,
        now_s: Callable[[], float],
        wait_s: float = WAIT_S,
    ) -> None:
        self._us, self._questions, self._answers, self._database = us, questions, answers, database
        self._notices, self._now_s, self._wait_s = notices, now_s, wait_s
        self._under_way: dict[str, asyncio.Task[bool]] = {}
        self._in_vain: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    async def fetch(self, room_id: str, edges: Sequence[str], limit: int) -> bool:
        """Fetch what lies at these events, which others of the room follow and we lack. True: something came.

        Never raises, and takes about `wait_s` at most. Who asks for a room that is being fetched for waits with it.
        """
        until_s, tried = self._in_vain.get(room_id, (0.0, frozenset[str]()))
        if not edges or (self._now_s() < until_s and tried.issuperset(edges)):
            return False
        task = self._under_way.get(room_id)
        if task is None:
            task = asyncio.create_task(self._fetch(room_id, edges[:EDGES_MAX], limit))
            self._under_way[room_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(room_id, None))
        # A client that went away takes nobody with it.
        return await asyncio.shield(task)

    async def _fetch(self, room_id: str, edges: Sequence[str], limit: int) -> bool:
        came = False
        try:
            async with asyncio.timeout(self._wait_s):
                came = await self._from_some(room_id, edges, min(max(limit, EVENTS_MIN), EVENTS_MAX))
        except NOT_NOW_HERE as error:
            _logger.info("backfill_failed", room_id=room_id, error=repr(error))
        if not came:
            self._remember(room_id, edges)
        return came

    def _remember(self, room_id: str, edges: Sequence[str]) -> None:
        until_s, tried = self._in_vain.pop(room_id, (0.0, frozenset[str]()))
        now_s = self._now_s()
        before = tried if now_s < until_s else frozenset[str]()
        self._in_vain[room_id] = (now_s + IN_VAIN_S, before.union(edges))
        while len(self._in_vain) > ROOMS_KEPT:
            self._in_vain.popitem(last=False)

    async def _from_some(self, room_id: str, edges: Sequence[str], limit: int) -> bool:
        facts = await self._database.read(lambda snapshot: room_facts(snapshot, room_id))
        if facts is None:
            return False
        servers = [server for server in facts.servers if server != self._us]
        for server in self._questions.servers.willing(servers, SERVERS_MAX):
            try:
                logged = await self._from_one(facts, server, edges, limit)
            except FederationError as error:
                _logger.info("backfill_question_failed", room_id=room_id, server=server, error=error.reason)
                continue
            if logged and await self._placed(room_id, logged):
                return True
        return False

    async def _from_one(self, facts: RoomFacts, server: str, edges: Sequence[str], limit: int) -> list[str]:
        """The ids of the events that came and were logged."""
        logged, passed_over = await self._asked(facts, server, edges, limit)
        # What fails is an edge of every page with what follows it. When all behind it is here the answer may be full of
        # that, and say nothing of the other edges.
        rest = [edge for edge in edges if edge not in passed_over]
        if not logged and 0 < len(rest) < len(edges):
            logged, _ = await self._asked(facts, server, rest, limit)
        return logged

    async def _asked(
        self, facts: RoomFacts, server: str, edges: Sequence[str], limit: int
    ) -> tuple[list[str], PassedOver]:
        pdus = await self._questions.backfill(server, facts.room_id, edges, limit)
        source = Source(facts.room_id, facts.rules, facts.create_event_id, server, BACKFILL)
        passed_over: dict[str, tuple[str, ...]] = {}
        found = await self._answers.verified(source, pdus, passed_over=passed_over)

        def follows(event: Event) -> tuple[str, ...]:
            return behind(event.prev_events, passed_over)

        events = {event_id: verified.event for event_id, verified in found.items()}
        near = reached(events, behind(edges, passed_over), limit + len(edges), follows)
        here = await self._database.read(
            lambda snapshot: placed(snapshot, facts.room_id, [event.event_id for event in near])
        )
        new = [event for event in ordered(near, follows) if event.event_id not in here]
        await self._answers.write(self._answers.facts(source, new, found, BACKFILL))
        return [event.event_id for event in new], passed_over

    async def _placed(self, room_id: str, event_ids: Sequence[str]) -> bool:
        """Wait until none of these is parked any more; True if one of them stands in the room's graph."""
        moved = asyncio.Event()

        def hear(notice: _RoomsMoved) -> None:
            if notice.everything or room_id in notice.rooms:
                moved.set()

        def waiting_and_there(snapshot: Snapshot) -> tuple[set[str], set[str]]:
            waiting = parked(snapshot, room_id, event_ids)
            return waiting, placed(snapshot, room_id, event_ids) - waiting

        end = self._notices.subscribe(hear)
        try:
            while True:
                moved.clear()
                waiting, there = await self._database.read(waiting_and_there)
                if not waiting:
                    return bool(there)
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await moved.wait()
        finally:
            end()


class _RoomsMoved(Protocol):
    @property
    def rooms(self) -> frozenset[str]: ...
    @property
    def everything(self) -> bool: ...

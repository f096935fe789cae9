"""An event near a moment that we lack, asked of other servers of the room, and fetched like the past of any room.

What a server says of an event's time is only its word: the event is fetched, and its own time counts.
"""

from __future__ import annotations

import asyncio

import structlog

from annals.federation.errors import FederationError
from annals.ingest.fetchers.by_id import Reading
from annals.ingest.fetchers.history import EVENTS_MIN, NOT_NOW_HERE, History
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.room_gaps import placed, room_facts

_logger = structlog.get_logger(__name__)

SERVERS_MAX = 4
WAIT_S = 15.0


class Moments:
    """Asks others for events by their time, while a client waits. `us` is our server name."""

    def __init__(self, us: str, questions: Questions, history: History, database: Reading) -> None:
        self._us, self._questions, self._history, self._database = us, questions, history, database

    async def near(self, room_id: str, at_ms: int, forwards: bool, nearest_ms: int | None) -> str | None:
        """The id of an event that is nearer than the nearest one here and stands in the room's graph by now; None where
        nobody has one. Never raises, and takes about `WAIT_S` at most."""
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._near(room_id, at_ms, forwards, nearest_ms)
        except NOT_NOW_HERE as error:
            _logger.info("moment_not_asked", room_id=room_id, error=repr(error))
            return None

    async def _near(self, room_id: str, at_ms: int, forwards: bool, nearest_ms: int | None) -> str | None:
        facts = await self._database.read(lambda snapshot: room_facts(snapshot, room_id))
        servers = [server for server in facts.servers if server != self._us] if facts is not None else []
        for server in self._questions.servers.willing(servers, SERVERS_MAX):
            try:
                event_id, ts_ms = await self._questions.near(server, room_id, at_ms, forwards)
            except FederationError as error:
                _logger.info("moment_question_failed", room_id=room_id, server=server, error=error.reason)
                continue
            is_there = ts_ms >= at_ms if forwards else ts_ms <= at_ms
            is_nearer = nearest_ms is None or abs(ts_ms - at_ms) < abs(nearest_ms - at_ms)
            if is_there and is_nearer and await self._fetched(room_id, event_id):
                return event_id
        return None

    async def _fetched(self, room_id: str, event_id: str) -> bool:
        if await self._is_placed(room_id, event_id):
            return True
        return await self._history.fetch(room_id, [event_id], EVENTS_MIN) and await self._is_placed(room_id, event_id)

    async def _is_placed(self, room_id: str, event_id: str) -> bool:
        return bool(await self._database.read(lambda snapshot: placed(snapshot, room_id, [event_id])))

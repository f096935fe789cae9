"""GET /sync as the API calls it: read, and where there is nothing new, wait and read again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import orjson

from annals.database.pool import Database
from annals.queries.client_events import Viewer
from annals.queries.errors import NotYet
from annals.queries.sync.advice import EphemeralCount
from annals.queries.sync.filters import SyncFilter
from annals.queries.sync.notifier import Notifier
from annals.queries.sync.presence import NO_NEWS, PresenceNews, Presences
from annals.queries.sync.reader import Behind, SyncAnswer, read_sync
from annals.queries.sync.request import SyncRequest
from annals.queries.sync.token import SyncToken, log_mark, unpack
from annals.queries.sync.typing import Typing

#: How long a token may be ahead of the tables before the answer is 503, where nobody says otherwise.
BEHIND_WAIT_S = 10.0
_BEHIND_STEP_S = 0.5


class Sync:
    """Answers /sync from snapshots. `clock` gives milliseconds since 1970.

    `behind_wait_s`: how long the tables have to reach a token that is ahead of them.
    """

    def __init__(
        self,
        database: Database,
        log_id: str,
        notifier: Notifier,
        typing: Typing,
        presences: Presences | None,
        count: EphemeralCount,
        clock: Callable[[], int],
        stopping: asyncio.Event,
        behind_wait_s: float = BEHIND_WAIT_S,
    ) -> None:
        self._database = database
        self._log = log_mark(log_id)
        self._notifier = notifier
        self._typing, self._presences, self._count = typing, presences, count
        self._clock = clock
        self._stopping = stopping
        self._behind_wait_s = behind_wait_s

    async def sync(
        self,
        viewer: Viewer,
        since: str | None,
        sync_filter: SyncFilter,
        timeout_ms: int,
        full_state: bool = False,
        use_state_after: bool = False,
    ) -> bytes:
        """The answer as JSON. Raises BadToken for a `since` that is none, NotYet where the tables stay behind it."""
        request = SyncRequest(viewer, self._token(since), sync_filter, full_state, use_state_after)
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            seen = self._notifier.seen
            answer = await self._read(request)
            left_s = deadline - time.monotonic()
            # An initial sync, and one that asks for all state, answers at once.
            if not answer.empty or request.since is None or full_state or left_s <= 0 or self._stopping.is_set():
                return orjson.dumps(answer.body)
            if not await self._wait(request, answer, seen, left_s):
                return orjson.dumps((await self._read(request)).body)

    def _token(self, since: str | None) -> SyncToken | None:
        if since is None or since == "":
            return None
        token = unpack(since)
        # A token of another log says nothing about this one: every room is told anew, as limited.
        return token if token.log == self._log else None

    async def _wait(self, request: SyncRequest, answer: SyncAnswer, seen: int, timeout_s: float) -> bool:
        waiting = asyncio.ensure_future(self._notifier.wait(request.viewer.user_id, answer.joined, seen, timeout_s))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return waiting.done() and waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _read(self, request: SyncRequest) -> SyncAnswer:
        deadline = time.monotonic() + self._behind_wait_s
        ephemeral = self._count.offset
        typing, presence = self._typing_since(request), self._presence_since(request)
        while True:
            seen = self._notifier.seen
            try:
                return await self._database.read(
                    lambda snapshot: read_sync(snapshot, request, self._log, typing, ephemeral, presence)
                )
            except Behind:
                if time.monotonic() > deadline:
                    raise NotYet("the tables have not reached the token") from None
                await self._notifier.wait(request.viewer.user_id, frozenset(), seen, _BEHIND_STEP_S)

    def _typing_since(self, request: SyncRequest) -> Mapping[str, list[str]]:
        return self._typing.changed_since(request.since.ephemeral if request.since else None)

    def _presence_since(self, request: SyncRequest) -> PresenceNews:
        if self._presences is None or not request.filter.presence.takes_type("m.presence"):
            return NO_NEWS
        return self._presences.news(request.since.ephemeral if request.since else None)

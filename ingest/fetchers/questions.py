"""The questions themselves: one request each, its answer looked at for its shape and size, and nothing else.

What is in an answer is still anybody's word: see `answers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from annals.federation.client import FederationClient, Query, path_of
from annals.federation.errors import BadAnswer
from annals.ingest.fetchers.servers import ServersAsked
from annals.matrix.canonical_json import loads
from annals.matrix.errors import InvalidJson
from annals.matrix.identifiers import is_event_id

_EVENT_BYTES_MAX = 66_000
_ANSWER_BYTES = 100_000
#: An id is at most 255 bytes, and takes a few more in JSON.
_IDS_BYTES_MAX = 64 << 20
STATE_BYTES_MAX = 256 << 20
STATE_IDS_MAX = 250_000
EVENTS_AT_ONCE = 6
QUESTION_TIMEOUT_S = 20.0
STATE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class StateIds:
    """The state before an event, and the auth chain of that state, by ids; each named once."""

    state: tuple[str, ...]
    auth_chain: tuple[str, ...]


class Questions:
    """Asks other servers about rooms. All methods raise FederationError.

    `threads`: where large answers are parsed.
    """

    def __init__(self, client: FederationClient, servers: ServersAsked, threads: Executor) -> None:
        self._client, self.servers, self._threads = client, servers, threads

    async def missing_events(
        self,
        server: str,
        room_id: str,
        earliest: Sequence[str],
        latest: Sequence[str],
        limit: int,
        min_depth: int = 0,
    ) -> list[Any]:
        """PDUs before `latest` and not before `earliest`, at most `limit`."""
        path = path_of("federation", "v1", "get_missing_events", room_id)
        content = {
            "earliest_events": list(earliest),
            "latest_events": list(latest),
            "limit": limit,
            "min_depth": max(0, min_depth),
        }
        async with self.servers.asking(server):
            bytes_max = _ANSWER_BYTES + limit * _EVENT_BYTES_MAX
            answer = await self._client.post(server, path, content, timeout_s=QUESTION_TIMEOUT_S, bytes_max=bytes_max)
            return _bounded(server, _list(server, answer, "events"), limit)

    async def backfill(self, server: str, room_id: str, event_ids: Sequence[str], limit: int) -> list[Any]:
        """The PDUs of these ids and those before them, at most `limit`."""
        query: list[tuple[str, str | int]] = [*(("v", event_id) for event_id in event_ids), ("limit", limit)]
        answer = await self._get(server, query, limit, "backfill", room_id)
        return _bounded(server, _list(server, answer, "pdus"), limit + len(event_ids))

    async def event(self, server: str, event_id: str) -> Any:
        """The one PDU of this id: whatever the server says it is."""
        pdus = _list(server, await self._get(server, (), 1, "event", event_id), "pdus")
        if len(pdus) != 1:
            raise BadAnswer(server, f"{len(pdus)} events, where one was asked for")
        return pdus[0]

    async def near(self, server: str, room_id: str, at_ms: int, forwards: bool) -> tuple[str, int]:
        """The id and time of the event nearest to a moment, first from then on or last until then, as the server has
        it."""
        query: list[tuple[str, str | int]] = [("ts", at_ms), ("dir", "f" if forwards else "b")]
        answer = await self._get(server, query, 0, "timestamp_to_event", room_id)
        found = (answer.get("event_id"), answer.get("origin_server_ts")) if type(answer) is dict else (None, None)
        if type(found[0]) is not str or not is_event_id(found[0]) or type(found[1]) is not int:
            raise BadAnswer(server, "no event and its time")
        return found[0], found[1]

    async def event_auth(self, server: str, room_id: str, event_id: str) -> list[Any]:
        """The PDUs of the event's auth chain."""
        return _list(server, await self._large(server, (), "event_auth", room_id, event_id), "auth_chain")

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds:
        """The ids of the state before an event, and of its auth chain."""
        answer = await self._large(server, [("event_id", event_id)], "state_ids", room_id, bytes_max=_IDS_BYTES_MAX)
        state, auth_chain = _ids(server, answer, "pdu_ids"), _ids(server, answer, "auth_chain_ids")
        if len(state) + len(auth_chain) > STATE_IDS_MAX:
            raise BadAnswer(server, "a state of too many events")
        return StateIds(state, auth_chain)

    async def state(self, server: str, room_id: str, event_id: str) -> list[Any]:
        """All PDUs of the state before an event, and of its auth chain."""
        answer = await self._large(server, [("event_id", event_id)], "state", room_id)
        return [*_list(server, answer, "pdus"), *_list(server, answer, "auth_chain")]

    async def _get(self, server: str, query: Query, events: int, *segments: str) -> Any:
        bytes_max = _ANSWER_BYTES + events * _EVENT_BYTES_MAX
        async with self.servers.asking(server):
            return await self._client.get(
                server,
                path_of("federation", "v1", *segments),
                query,
                timeout_s=QUESTION_TIMEOUT_S,
                bytes_max=bytes_max,
            )

    async def _large(self, server: str, query: Query, *segments: str, bytes_max: int = STATE_BYTES_MAX) -> Any:
        path = path_of("federation", "v1", *segments)
        async with self.servers.asking(server):
            body = await self._client.ask(server, "GET", path, query, timeout_s=STATE_TIMEOUT_S, bytes_max=bytes_max)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, loads, body)
            except InvalidJson as error:
                raise BadAnswer(server, f"not JSON: {error}") from error


def _list(server: str, answer: Any, key: str) -> list[Any]:
    found = answer.get(key) if type(answer) is dict else None
    if type(found) is not list:
        raise BadAnswer(server, f"no list {key}")
    return found


def _bounded(server: str, pdus: list[Any], limit: int) -> list[Any]:
    # Some servers count a little differently; who sends far more than was asked for wants to keep us busy.
    if len(pdus) > 2 * limit + 10:
        raise BadAnswer(server, f"{len(pdus)} events, where {limit} were asked for")
    return pdus


def _ids(server: str, answer: Any, key: str) -> tuple[str, ...]:
    found = _list(server, answer, key)
    if not all(type(event_id) is str for event_id in found):
        raise BadAnswer(server, f"{key}: not all are ids")
    return tuple(dict.fromkeys(found))

"""Fetching events one by one by their ids, and closing a set of events over the auth events that it cites."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from annals.database.snapshot import Snapshot
from annals.federation.errors import FederationError, Refused
from annals.ingest.fetchers.answers import Answers, Source
from annals.ingest.fetchers.questions import Questions
from annals.ingest.fetchers.room_gaps import present
from annals.ingest.verification import Verified

T = TypeVar("T")

EVENTS_PER_ROUND = 24
#: How deep, and how far in all, auth events are followed one by one.
CLOSING_ROUNDS_MAX = 12
CLOSING_EVENTS_MAX = 500


class Reading(Protocol):
    """Reads of the tables (database.pool.Database)."""

    async def read(self, fn: Callable[[Snapshot], T]) -> T:
        """What `fn` makes of one snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class Closed:
    """`found`, with what was fetched for it, and which of the cited ones are in the tables."""

    found: dict[str, Verified]
    here: set[str]


@dataclass(slots=True)
class ById:
    """Single events from one server."""

    questions: Questions
    answers: Answers
    database: Reading

    async def fetch(self, source: Source, event_ids: Sequence[str]) -> dict[str, Verified]:
        """Those of the events that the server has and that pass. Raises FederationError as soon as the server cannot
        be asked: half an answer must not pass for a whole one."""
        found: dict[str, Verified] = {}
        for start in range(0, len(event_ids), EVENTS_PER_ROUND):
            ids = event_ids[start : start + EVENTS_PER_ROUND]
            came = await asyncio.gather(
                *(self._one(source.server, event_id) for event_id in ids), return_exceptions=True
            )
            for answer in came:
                if isinstance(answer, BaseException):
                    raise answer
            got = [(pdu, event_id) for pdu, event_id in zip(came, ids, strict=True) if pdu is not None]
            found |= await self.answers.verified(source, [pdu for pdu, _ in got], [event_id for _, event_id in got])
        return found

    async def _one(self, server: str, event_id: str) -> Any:
        try:
            return await self.questions.event(server, event_id)
        except Refused as error:
            if error.is_final:
                return None
            raise

    async def close(self, source: Source, found: dict[str, Verified], here: Collection[str] = ()) -> Closed:
        """Follow the auth events of what was found to what is here. What cannot be had stays lacking. Bounded."""
        known, had, in_vain, asked = set(here), dict(found), set[str](), 0
        for _ in range(CLOSING_ROUNDS_MAX):
            cited = {other for verified in had.values() for other in verified.event.auth_events}
            unknown = cited - had.keys() - known - in_vain
            known |= await self.present(source.room_id, unknown)
            lacking = sorted(unknown - known)[: CLOSING_EVENTS_MAX - asked]
            if not lacking:
                break
            asked += len(lacking)
            try:
                fetched = await self.fetch(source, lacking)
            except FederationError:
                break
            in_vain.update(set(lacking) - fetched.keys())
            had |= fetched
        return Closed(had, known)

    async def present(self, room_id: str, event_ids: Collection[str]) -> set[str]:
        """Those of these events that are in the tables for others to cite."""
        if not event_ids:
            return set()
        return await self.database.read(lambda snapshot: present(snapshot, room_id, event_ids))

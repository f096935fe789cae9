"""From an answer to events that may go on the log, and those to the log. No path leads around the verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol

from annals.ingest.fetchers.passing import follows
from annals.ingest.pdu_facts import pdu_fetched, pdu_quarantined
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import Candidate, Verified
from annals.matrix.errors import MatrixError
from annals.matrix.events import Event, parse_event
from annals.matrix.format import without_unsigned
from annals.matrix.room_versions import RoomRules
from annals.projectors.positions.appending import Submitted
from annals.schemas.facts.envelope import Envelope, Fact

VERIFIED_AT_ONCE = 200
QUARANTINED_PER_ANSWER_MAX = 20
FACTS_AT_ONCE = 200


class Appending(Protocol):
    """How facts get on the log, and how one waits for the tables (projectors.positions.appending.Appender)."""

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        """The envelope of a fact that is written now."""
        ...

    async def submit(self, facts: Sequence[Fact]) -> Submitted:
        """Append the facts."""
        ...

    async def settle(self, submitted: Submitted, timeout_s: float = ...) -> None:
        """Wait until the tables have them."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Of which question something is the answer: who was asked, and what (`via`)."""

    room_id: str
    rules: RoomRules
    create_event_id: str
    server: str
    via: str


@dataclass(slots=True)
class Answers:
    """Verifies what came, and writes it down."""

    verifier: PduVerifier
    appender: Appending
    threads: Executor
    settle_timeout_s: float = 30.0
    loaded: int = field(default=0, init=False)
    """Events verified since the start: what the work is measured by."""

    async def verified(
        self,
        source: Source,
        pdus: Sequence[Any],
        asked_for: Sequence[str] | None = None,
        passed_over: dict[str, tuple[str, ...]] | None = None,
    ) -> dict[str, Verified]:
        """The events of the answer that pass checks 1 to 3 and are of the room; the others go to quarantine.

        `asked_for`: the ids that they must have, one for each, where they were asked for by id. `passed_over` is given
        what each of those that fail follows (passing.py).
        """
        passed: dict[str, Verified] = {}
        refused: list[Fact] = []
        for start in range(0, len(pdus), VERIFIED_AT_ONCE):
            chunk = pdus[start : start + VERIFIED_AT_ONCE]
            self.loaded += len(chunk)
            ids = asked_for[start : start + VERIFIED_AT_ONCE] if asked_for else [None] * len(chunk)
            candidates = [Candidate(pdu, source.rules, of) for pdu, of in zip(chunk, ids, strict=True)]
            outcomes = await self.verifier.verify(candidates)
            for pdu, found in zip(chunk, outcomes, strict=True):
                if not isinstance(found, Verified):
                    if passed_over is not None and (failed := follows(pdu, source.rules)) is not None:
                        passed_over[failed[0]] = failed[1]
                    if len(refused) < QUARANTINED_PER_ANSWER_MAX:
                        refused.append(
                            pdu_quarantined(
                                found,
                                pdu,
                                source.rules.version,
                                self.appender.envelope(),
                                source.server,
                                source.via,
                            )
                        )
                elif found.event.room_id == source.room_id:
                    passed[found.event.event_id] = found
        if refused:
            await self.appender.submit(refused)
        return passed

    async def by_id(self, rules: RoomRules, pdus: Sequence[Any]) -> dict[str, Event]:
        """The events in PDUs, by their ids: unverified, without those that are none."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, _by_id, rules, pdus)

    def facts(self, source: Source, events: Iterable[Event], found: dict[str, Verified], purpose: str) -> list[Fact]:
        """The facts of these events, in their order."""
        return [self.fact(source, found[event.event_id], purpose) for event in events]

    def fact(self, source: Source, verified: Verified, purpose: str) -> Fact:
        """The fact of one event."""
        return pdu_fetched(verified, self.appender.envelope(), source.server, source.via, purpose)

    async def write(self, facts: Sequence[Fact]) -> None:
        """Append the facts in their order, and wait until the tables have them all.

        No more than two parts are ahead of the tables: nothing live queues behind a whole state.
        """
        before = None
        for start in range(0, len(facts), FACTS_AT_ONCE):
            submitted = await self.appender.submit(facts[start : start + FACTS_AT_ONCE])
            if before is not None:
                await self.appender.settle(before, self.settle_timeout_s)
            before = submitted
        if before is not None:
            await self.appender.settle(before, self.settle_timeout_s)


def _by_id(rules: RoomRules, pdus: Sequence[Any]) -> dict[str, Event]:
    found: dict[str, Event] = {}
    for pdu in pdus:
        try:
            event = parse_event(without_unsigned(pdu) if type(pdu) is dict else pdu, rules)
        except MatrixError:
            continue
        found[event.event_id] = event
    return found

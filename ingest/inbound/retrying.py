"""PDUs in quarantine that a key, or the end of a join, may release: tried again by themselves, through every check.

What is pending follows from the topic alone, so that any process can go on where another ended:

    InputQuarantined with a time ─▶ pending, due ─▶ every check again ─▶ QuarantineRetried: released, or why not
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.ingest.fetchers.origins import purpose_of
from annals.ingest.inbound.answering import rules_of_answer
from annals.ingest.inbound.metrics import count
from annals.ingest.inbound.standing import Elsewhere, Found, Wanted, look
from annals.ingest.pdu_facts import ORIGINAL_BYTES_MAX, PDU, membership_received, pdu_fetched, pdu_received
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import Candidate, KeyUnavailable, Outcome, Quarantined, Verified
from annals.matrix.canonical_json import loads
from annals.matrix.errors import MatrixError
from annals.matrix.room_versions import RoomRules
from annals.schemas.codec import decode
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.quarantine import InputQuarantined, QuarantineRetried

TOPIC = "quarantine"
RELEASED, EXPIRED, DENIED, NOT_IN_ROOM, ROOM_NOT_READY = (
    "released",
    "expired",
    "acl_denied",
    "not_in_room",
    "room_not_ready",
)
ATTEMPTS_MAX = 12
FIRST_WAIT_MS, LONGEST_WAIT_MS = 2_000, 3600 * 1000
AT_ONCE_MAX = 100
PENDING_MAX = 100_000
_READ_RECORDS = 500


class FactWriter(Protocol):
    """How facts get on the log; durable when `submit` returns."""

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        """The envelope of a fact that is written now."""
        ...

    async def submit(self, facts: Sequence[Fact]) -> object:
        """Append the facts, in one call."""
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """An input that is to be tried again. Its PDU stays on the log until then."""

    partition: int
    offset: int
    retry_at_ms: int
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class _Due:
    pending: Pending
    fact: InputQuarantined
    pdu: Any


class QuarantineRetrier:
    """Tries again what is due. `work` one pass after the other; only one process shall."""

    def __init__(
        self, log: Log, writer: FactWriter, database: Database, verifier: PduVerifier, now_ms: Callable[[], int]
    ) -> None:
        self._log, self._writer, self._database = log, writer, database
        self._verifier, self._now_ms = verifier, now_ms
        self._next = [0] * log.partitions(TOPIC)
        self.pending: dict[tuple[int, int], Pending] = {}

    async def work(self) -> int:
        """One pass: read what is new on the topic, try what is due; how many were tried."""
        await asyncio.to_thread(self._read)
        now_ms = self._now_ms()
        due = sorted((item for item in self.pending.values() if item.retry_at_ms <= now_ms), key=_by_time)[:AT_ONCE_MAX]
        if not due:
            return 0
        items = await asyncio.to_thread(lambda: [self._fetched(item) for item in due])
        await self._try([item for item in items if item is not None])
        return len(due)

    def _read(self) -> None:
        for partition in range(len(self._next)):
            while records := self._log.read(TOPIC, partition, self._next[partition], _READ_RECORDS):
                for record in records:
                    self._next[partition] = record.offset + 1
                    if record.value is not None:
                        self._fold(partition, record.offset, decode(record.value))

    def _fold(self, partition: int, offset: int, fact: object) -> None:
        if isinstance(fact, InputQuarantined):
            # What was cut cannot be verified any more.
            whole = fact.original_bytes <= ORIGINAL_BYTES_MAX and isinstance(fact.original, bytes)
            if fact.kind == PDU and fact.retry_at_ms is not None and whole and len(self.pending) < PENDING_MAX:
                self.pending[partition, offset] = Pending(partition, offset, fact.retry_at_ms)
        elif isinstance(fact, QuarantineRetried):
            before = self.pending.pop((partition, fact.source), None)
            if before is not None and fact.retry_at_ms is not None:
                again = Pending(partition, fact.source, fact.retry_at_ms, before.attempts + 1)
                self.pending[partition, fact.source] = again

    def _fetched(self, item: Pending) -> _Due | None:
        """The input itself; None where the topic does not hold it any more."""
        records = self._log.read(TOPIC, item.partition, item.offset, max_records=1)
        fact = decode(records[0].value) if records and records[0].offset == item.offset and records[0].value else None
        if not isinstance(fact, InputQuarantined) or not isinstance(fact.original, bytes):
            self.pending.pop((item.partition, item.offset), None)
            return None
        try:
            return _Due(item, fact, loads(fact.original))
        except MatrixError:
            return _Due(item, fact, None)

    async def _try(self, due: Sequence[_Due]) -> None:
        rooms = {item.fact.room_id for item in due if item.fact.room_id is not None}
        first = await self._database.read(lambda snapshot: look(snapshot, Wanted(rooms)))
        ready = [(item, Candidate(item.pdu, rules)) for item in due if (rules := _rules_of(item, first))]
        outcomes = await self._verifier.verify([candidate for _, candidate in ready])
        found = dict(zip((item.pending for item, _ in ready), outcomes, strict=True))
        facts: list[Fact] = []
        for item in due:
            facts += self._outcome(item, found.get(item.pending), first)
        await self._writer.submit(facts)

    def _outcome(self, item: _Due, outcome: Outcome | None, found: Found) -> list[Fact]:
        room_id = item.fact.room_id or ""
        standing = found.rooms.get(room_id)
        if outcome is None:
            waits = found.elsewhere.get(room_id) is Elsewhere.JOINING
            return [self._stays(item, ROOM_NOT_READY, "", 0) if waits else self._ended(item, NOT_IN_ROOM, "")]
        # An ACL is about what a server sends us, not about what it has told us because we asked.
        pushed = purpose_of(item.fact.via) is None
        if pushed and standing is not None and not standing.admits(item.fact.origin):
            return [self._ended(item, DENIED, "")]
        if isinstance(outcome, Quarantined):
            return [self._ended(item, outcome.reason, outcome.detail)]
        if isinstance(outcome, KeyUnavailable):
            return [self._stays(item, str(item.fact.reason), outcome.detail, outcome.retry_at_ms)]
        return [self._received(item, outcome, found), self._ended(item, RELEASED, "")]

    def _received(self, item: _Due, outcome: Verified, found: Found) -> Fact:
        envelope, fact = self._envelope(item), item.fact
        # What we asked for stays what it was: pushed, it could be given up, or become an extremity.
        purpose = purpose_of(fact.via)
        if purpose is not None:
            return pdu_fetched(outcome, envelope, fact.origin, fact.via, purpose)
        if found.rules_of(fact.room_id) is None:
            return membership_received(outcome, envelope, fact.origin, fact.via, b"[]")
        return pdu_received(outcome, envelope, fact.origin, fact.via)

    def _stays(self, item: _Due, reason: str, detail: str, not_before_ms: int) -> Fact:
        if item.pending.attempts + 1 >= ATTEMPTS_MAX:
            return self._ended(item, EXPIRED, detail)
        count(PDU, "retried")
        wait_ms = min(LONGEST_WAIT_MS, FIRST_WAIT_MS << item.pending.attempts)
        retry_at_ms = max(not_before_ms, self._now_ms() + wait_ms)
        return self._retried(item, reason, detail, retry_at_ms)

    def _ended(self, item: _Due, outcome: str, detail: str) -> Fact:
        count(PDU, "released" if outcome == RELEASED else "given_up")
        return self._retried(item, outcome, detail, None)

    def _retried(self, item: _Due, outcome: str, detail: str, retry_at_ms: int | None) -> Fact:
        return QuarantineRetried(
            envelope=self._envelope(item),
            origin=item.fact.origin,
            source=item.pending.offset,
            outcome=str(outcome),
            detail=detail[:1000],
            retry_at_ms=retry_at_ms,
        )

    def _envelope(self, item: _Due) -> Envelope:
        return self._writer.envelope(cause=f"{TOPIC}/{item.pending.partition}/{item.pending.offset}")


def _rules_of(item: _Due, found: Found) -> RoomRules | None:
    """By which rules to verify it: those of a room that we are in, or coming into, or of an invite that it answers."""
    room_id = item.fact.room_id
    if purpose_of(item.fact.via) is not None:
        return found.rules_of(room_id)
    return found.rules_of(room_id) or rules_of_answer(found, room_id, item.pdu, item.fact.origin)


def _by_time(item: Pending) -> tuple[int, int]:
    return item.retry_at_ms, item.offset

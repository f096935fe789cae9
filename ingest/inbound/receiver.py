"""PUT /_matrix/federation/v1/send: a transaction, from its body to its answer.

    versions of its rooms (memory, else a read) ─▶ verify, all together, one thread hop
      ─▶ one read: answered before? rooms, ACLs, users, known events ─▶ facts, encoded off the loop ─▶ one append
      ─▶ the answer is kept, and given: everything is durable, nothing is decided yet

Transactions of one server are taken one after the other, so that its events stay in order; the same one twice at once
is one. A PDU that does not pass keeps nothing else waiting.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson

from annals.database.pool import Database
from annals.federation.flights import Flights
from annals.ingest.inbound.answers import keep_answer
from annals.ingest.inbound.devices import KINDS, DeviceClaims, device_claims, device_facts
from annals.ingest.inbound.edus import RoomClaim, count_unknown, room_claims
from annals.ingest.inbound.intake import Arrived, not_ready, room_of, take_claims, take_pdus, too_many_copies
from annals.ingest.inbound.metrics import count
from annals.ingest.inbound.out_of_band import take_answers
from annals.ingest.inbound.presence import PRESENCE, presence_claims, presence_facts
from annals.ingest.inbound.quota import Quota
from annals.ingest.inbound.standing import Elsewhere, Found, Wanted, look
from annals.ingest.inbound.transaction import Transaction, TransactionRefused, read_transaction
from annals.ingest.pdu_facts import PDU
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.recovery.asker import Pushed, RoomAsker
from annals.ingest.verification import Candidate
from annals.matrix.presence import Presence
from annals.matrix.room_versions import RoomRules
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.records import Addressed, record_of

WAITING_MAX = 20
"""Transactions of one server that wait for their turn: a well-behaved one has one under way."""
_ROOMS_MAX = 100_000
BATCH_RECORDS, BATCH_BYTES = 1_000, 8 << 20
"""Of one append: a large transaction takes several, so that others' records come between, and it fits into memory."""
# Fewer are done sooner than a thread is asked.
_DONE_HERE_MAX = 4
# What an EDU says costs so much less than a PDU.
_ENTRIES_A_PDU = 64
T = TypeVar("T")


class RecordWriter(Protocol):
    """How facts get on the log; durable when `submit_records` returns."""

    def envelope(self, cause: str | None = None, idempotency_key: str | None = None) -> Envelope:
        """The envelope of a fact that is written now."""
        ...

    async def submit_records(self, records: Sequence[Addressed]) -> object:
        """Append the records, in one call."""
        ...


class Receiver:
    """Takes transactions of other servers. One a process, on one event loop."""

    def __init__(
        self,
        writer: RecordWriter,
        database: Database,
        verifier: PduVerifier,
        threads: Executor,
        server_name: str,
        now_ms: Callable[[], int],
        asker: RoomAsker | None = None,
        with_presence: bool = True,
    ) -> None:
        self._writer, self._database, self._verifier = writer, database, verifier
        self._threads, self._server_name, self._now_ms = threads, server_name, now_ms
        self._asker, self._with_presence = asker, with_presence
        self._quota = Quota(now_ms)
        self._flights: Flights[tuple[str, str], bytes] = Flights()
        self._turns: dict[str, _Turn] = {}
        # Rules of rooms that a user of ours was in when last looked at. A room's version never changes.
        self._rules: OrderedDict[str, RoomRules] = OrderedDict()

    async def receive(
        self, origin: str, transaction_id: str, content: dict[str, Any], cause: str | None = None
    ) -> bytes:
        """The answer, as JSON text, once everything in the transaction is durable.

        Raises TransactionRefused, and what log and tables raise: then the sender comes again with the same.
        """
        transaction = read_transaction(origin, transaction_id, content, cause)
        return await self._flights.join((origin, transaction_id), lambda: self._in_turn(transaction))

    async def close(self) -> None:
        """Give up what is under way."""
        if self._asker is not None:
            await self._asker.close()
        await self._flights.close()

    async def _in_turn(self, transaction: Transaction) -> bytes:
        turn = self._turns.setdefault(transaction.origin, _Turn())
        if turn.waiting >= WAITING_MAX:
            raise TransactionRefused(429, "M_LIMIT_EXCEEDED", "Too many transactions at once")
        turn.waiting += 1
        try:
            async with turn.lock:
                return await self._take(transaction)
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[transaction.origin]

    async def _take(self, transaction: Transaction) -> bytes:
        arrived = await self._verified(transaction)
        said = await self._off_loop(transaction.entries // _ENTRIES_A_PDU, lambda: self._said(transaction))
        wanted = _wanted(transaction, arrived, said)
        found = await self._database.read(lambda snapshot: look(snapshot, wanted))
        if found.answer is not None:
            return found.answer.encode()
        if _was_overtaken(transaction, arrived, found):
            # A join has gone on since the rooms were looked up: now they can be verified.
            return await self._take(transaction)
        self._forget(found.elsewhere)
        now_ms, envelope = self._now_ms(), self._writer.envelope(transaction.cause)

        def may_keep(size_bytes: int) -> bool:
            return self._quota.take(transaction.origin, size_bytes)

        taken = await self._off_loop(len(arrived), lambda: take_pdus(transaction, arrived, found, envelope, may_keep))
        answers = await take_answers(transaction, found, self._verifier, envelope, may_keep)
        taken.facts += answers.facts
        taken.results |= answers.results
        taken.facts += not_ready(transaction, found, envelope, now_ms, may_keep)
        self._tell_elsewhere(transaction, found)
        count_unknown(transaction.edus, KINDS | {PRESENCE})

        def of_edus() -> list[Fact]:
            delivered = device_facts(said.devices, found.devices, found.sharing, envelope)
            return [
                *take_claims(said.rooms, transaction.origin, found, envelope, now_ms),
                *delivered.facts,
                *too_many_copies(transaction, delivered.left_out, envelope, may_keep),
                *presence_facts(said.present, transaction.origin, found.sharing, envelope),
            ]

        taken.facts += await self._off_loop(transaction.entries // _ENTRIES_A_PDU, of_edus)
        await self._append(taken.facts)
        return await self._answered(transaction, {"pdus": taken.results}, now_ms)

    def _said(self, transaction: Transaction) -> _Said:
        edus, origin = transaction.edus, transaction.origin
        return _Said(
            room_claims(edus, origin),
            device_claims(edus, origin, self._server_name),
            presence_claims(edus, origin, self._now_ms()) if self._with_presence else {},
        )

    async def _verified(self, transaction: Transaction) -> list[Arrived]:
        """The PDUs of rooms that we are in, verified; of others nothing is looked at but their room."""
        named = [(pdu, room_id) for pdu in transaction.pdus if (room_id := room_of(pdu)) is not None]
        count(PDU, "no_room", len(transaction.pdus) - len(named))
        await self._learn({room_id for _, room_id in named} - self._rules.keys())
        of_ours = [(pdu, room_id) for pdu, room_id in named if room_id in self._rules]
        if not of_ours:
            return []
        candidates = [Candidate(pdu, self._rules[room_id]) for pdu, room_id in of_ours]
        outcomes = await self._verifier.verify(candidates)
        return [
            Arrived(candidate, outcome, room_id)
            for candidate, outcome, (_, room_id) in zip(candidates, outcomes, of_ours, strict=True)
        ]

    async def _learn(self, room_ids: Collection[str]) -> None:
        if not room_ids:
            return
        found = await self._database.read(lambda snapshot: look(snapshot, Wanted(room_ids)))
        for room_id in room_ids:
            if (rules := found.rules_of(room_id)) is not None:
                self._rules[room_id] = rules
        while len(self._rules) > _ROOMS_MAX:
            self._rules.popitem(last=False)

    def _forget(self, room_ids: Collection[str]) -> None:
        for room_id in room_ids:
            self._rules.pop(room_id, None)

    def _tell_elsewhere(self, transaction: Transaction, found: Found) -> None:
        for pdu in transaction.pdus:
            room_id = room_of(pdu) or ""
            where = found.elsewhere.get(room_id)
            if where is not None:
                count(PDU, f"room_{where}")
            # What we have left is dropped without a question: after a state reset whole rooms are sent to us.
            if where is Elsewhere.UNKNOWN and self._asker is not None:
                self._asker.heard(Pushed(transaction.origin, room_id, pdu, self.receive))

    async def _append(self, facts: Sequence[Fact]) -> None:
        to_come, appended = iter(facts), 0
        while appended < len(facts):
            records = await self._off_loop(len(facts), lambda: _batch(to_come))
            await self._writer.submit_records(records)
            appended += len(records)

    async def _off_loop(self, count_of_items: int, work: Callable[[], T]) -> T:
        if count_of_items <= _DONE_HERE_MAX:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _answered(self, transaction: Transaction, answer: dict[str, Any], now_ms: int) -> bytes:
        text = orjson.dumps(answer).decode()
        stands = await self._database.write(
            lambda statements: keep_answer(statements, transaction.origin, transaction.transaction_id, text, now_ms)
        )
        return stands.encode()


@dataclass(frozen=True, slots=True)
class _Said:
    """What the EDUs of a transaction say. `present`: by user of the origin."""

    rooms: Sequence[RoomClaim]
    devices: DeviceClaims
    present: Mapping[str, Presence]


class _Turn:
    """Whose turn it is among the transactions of one server."""

    __slots__ = ("lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def _batch(facts: Iterator[Fact]) -> list[Addressed]:
    """Records of the next facts, as many as go into one append."""
    records: list[Addressed] = []
    size_bytes = 0
    while len(records) < BATCH_RECORDS and size_bytes < BATCH_BYTES and (fact := next(facts, None)) is not None:
        records.append(record_of(fact))
        size_bytes += len(records[-1].value or b"")
    return records


def _wanted(transaction: Transaction, arrived: Sequence[Arrived], said: _Said) -> Wanted:
    rooms = {room_id for pdu in transaction.pdus if (room_id := room_of(pdu)) is not None}
    return Wanted(
        rooms | {claim.room_id for claim in said.rooms},
        {(item.room_id, event_id) for item in arrived if (event_id := item.event_id) is not None},
        {(claim.room_id, claim.user_id) for claim in said.rooms},
        said.devices.receivers,
        said.devices.owners | said.present.keys(),
        (transaction.origin, transaction.transaction_id),
    )


def _was_overtaken(transaction: Transaction, arrived: Sequence[Arrived], found: Found) -> bool:
    """Whether there are PDUs that were not verified, of rooms whose rules are known by now."""
    verified = {item.room_id for item in arrived}
    rooms = {room_id for pdu in transaction.pdus if (room_id := room_of(pdu)) is not None}
    return any(found.rules_of(room_id) is not None for room_id in rooms - verified)


__all__ = ["Elsewhere", "Receiver", "TransactionRefused"]

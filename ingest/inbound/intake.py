"""PDUs that were verified, and what the tables say of their rooms, become facts and the answer's entries. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from annals.ingest.inbound.devices import COPIES_BYTES_MAX, COPIES_MAX, TO_DEVICE, ToDevice
from annals.ingest.inbound.edus import RoomClaim, Typing
from annals.ingest.inbound.metrics import count
from annals.ingest.inbound.retrying import DENIED, FIRST_WAIT_MS, ROOM_NOT_READY
from annals.ingest.inbound.standing import Elsewhere, Found
from annals.ingest.inbound.transaction import Transaction
from annals.ingest.pdu_facts import PDU, input_quarantined, pdu_quarantined, pdu_received
from annals.ingest.verification import Candidate, KeyUnavailable, Outcome, Quarantined, Verified
from annals.schemas.facts.envelope import Envelope, Fact
from annals.schemas.facts.ephemeral import TypingSet
from annals.schemas.facts.quarantine import InputQuarantined
from annals.schemas.facts.receipts import ReceiptSet

EDU, TOO_MANY = "edu", "too_many"
TYPING_MS = 60_000
"""A server that says no more of a user who types is believed for so long."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A PDU of a room that we know the version of, and what verification says."""

    candidate: Candidate
    outcome: Outcome
    room_id: str

    @property
    def event_id(self) -> str | None:
        """None where none could be computed."""
        return self.outcome.event.event_id if isinstance(self.outcome, Verified) else self.outcome.event_id


@dataclass(slots=True)
class Taken:
    """What becomes of a transaction's PDUs: facts to log, and the answer's `pdus`."""

    facts: list[Fact] = field(default_factory=list)
    results: dict[str, dict[str, str]] = field(default_factory=dict)
    dropped: list[Arrived] = field(default_factory=list)
    """Of rooms that we turned out not to be in."""


def take_pdus(
    transaction: Transaction,
    arrived: Sequence[Arrived],
    found: Found,
    envelope: Envelope,
    may_keep: Callable[[int], bool],
) -> Taken:
    """The facts of these PDUs. `may_keep`: whether so many bytes more may go to quarantine."""
    taken, logged = Taken(), set()
    for item in arrived:
        standing, event_id = found.rooms.get(item.room_id), item.event_id
        if standing is None and item.room_id not in found.joining:
            taken.dropped.append(item)
        elif standing is not None and not standing.admits(transaction.origin):
            # "the server must ... not accept the PDU": by the ACL as it is now, whatever the event's place.
            fact = _kept(
                transaction,
                item.candidate.pdu,
                item.room_id,
                DENIED,
                envelope,
                event_id=item.event_id,
                room_version=item.candidate.rules.version,
            )
            _quarantine(taken, fact, f"{transaction.origin} is denied by the room's server ACL", may_keep)
        elif not isinstance(item.outcome, Verified):
            quarantine_into(taken, transaction, item.candidate, item.outcome, envelope, may_keep)
        elif (item.room_id, event_id) in found.known or event_id in logged:
            count(PDU, "known")
            taken.results.setdefault(str(event_id), {})
        else:
            count(PDU, "logged")
            taken.facts.append(pdu_received(item.outcome, envelope, transaction.origin, transaction.via))
            taken.results[str(event_id)] = {}
            logged.add(event_id)
    return taken


def quarantine_into(
    taken: Taken,
    transaction: Transaction,
    candidate: Candidate,
    outcome: Quarantined | KeyUnavailable,
    envelope: Envelope,
    may_keep: Callable[[int], bool],
) -> None:
    """Keep a PDU that did not pass, or cannot be checked now, if so much may be kept; and say so."""
    version, origin = candidate.rules.version, transaction.origin
    fact = pdu_quarantined(outcome, candidate.pdu, version, envelope, origin, transaction.via)
    _quarantine(taken, fact, _reason(outcome), may_keep)


def not_ready(
    transaction: Transaction, found: Found, envelope: Envelope, now_ms: int, may_keep: Callable[[int], bool]
) -> list[Fact]:
    """PDUs of rooms that a user of ours is on the way into, before we know by which rules to verify them: kept, to be
    tried again soon."""
    facts: list[Fact] = []
    for pdu in transaction.pdus:
        room_id = room_of(pdu)
        if room_id is None or found.elsewhere.get(room_id) is not Elsewhere.JOINING or room_id in found.joining:
            continue
        retry_at_ms = now_ms + FIRST_WAIT_MS
        fact = _kept(transaction, pdu, room_id, ROOM_NOT_READY, envelope, retry_at_ms=retry_at_ms)
        if may_keep(_size_bytes(fact)):
            facts.append(fact)
    return facts


def too_many_copies(
    transaction: Transaction, left_out: Sequence[ToDevice], envelope: Envelope, may_keep: Callable[[int], bool]
) -> list[Fact]:
    """Messages for every device of a user that were too many, as one fact that names them."""
    if not left_out:
        return []
    detail = f"{len(left_out)} messages for every device of users who have many, beyond {COPIES_MAX} copies"
    fact = input_quarantined(
        [{"message_id": message.message_id, "user_id": message.user_id} for message in left_out],
        kind=EDU,
        room_id=None,
        room_version=None,
        event_id=None,
        reason=TOO_MANY,
        detail=f"{detail} or {COPIES_BYTES_MAX} bytes",
        retry_at_ms=None,
        envelope=envelope,
        origin=transaction.origin,
        via=transaction.via,
    )
    kept = may_keep(_size_bytes(fact))
    count(TO_DEVICE, TOO_MANY if kept else "over_quota", len(left_out))
    return [fact] if kept else []


def _size_bytes(fact: InputQuarantined) -> int:
    return len(fact.original) if isinstance(fact.original, bytes) else 0


def _quarantine(taken: Taken, fact: InputQuarantined, reason: str, may_keep: Callable[[int], bool]) -> None:
    if may_keep(_size_bytes(fact)):
        count(PDU, "quarantined")
        taken.facts.append(fact)
    else:
        count(PDU, "over_quota")
    if fact.event_id is not None:
        taken.results.setdefault(fact.event_id, {"error": reason})


def _kept(
    transaction: Transaction,
    pdu: Any,
    room_id: str,
    reason: str,
    envelope: Envelope,
    *,
    event_id: str | None = None,
    room_version: str | None = None,
    retry_at_ms: int | None = None,
) -> InputQuarantined:
    return input_quarantined(
        pdu,
        kind=PDU,
        room_id=room_id,
        room_version=room_version,
        event_id=event_id,
        reason=reason,
        detail="",
        retry_at_ms=retry_at_ms,
        envelope=envelope,
        origin=transaction.origin,
        via=transaction.via,
    )


def _reason(outcome: Quarantined | KeyUnavailable) -> str:
    if isinstance(outcome, KeyUnavailable):
        return f"Its signature cannot be checked now: {outcome.detail}"[:500]
    return f"{outcome.reason}: {outcome.detail}"[:500]


def take_claims(claims: Sequence[RoomClaim], origin: str, found: Found, envelope: Envelope, now_ms: int) -> list[Fact]:
    """The facts of what EDUs say about rooms: of users that are in them, of servers that may take part."""
    facts: list[Fact] = []
    # An ACL may be long, and claims many: each is asked once.
    rooms = {room_id for room_id in {claim.room_id for claim in claims} if found.admits(room_id, origin)}
    for claim in claims:
        kind = "m.typing" if isinstance(claim, Typing) else "m.receipt"
        if claim.room_id not in rooms or (claim.room_id, claim.user_id) not in found.joined:
            count(kind, "refused")
            continue
        count(kind, "logged")
        facts.append(_fact_of(claim, envelope, now_ms))
    return facts


def _fact_of(claim: RoomClaim, envelope: Envelope, now_ms: int) -> Fact:
    if isinstance(claim, Typing):
        return TypingSet(envelope, claim.room_id, claim.user_id, now_ms + TYPING_MS if claim.is_typing else 0)
    ts_ms = now_ms if claim.ts_ms is None else claim.ts_ms
    return ReceiptSet(envelope, claim.room_id, claim.user_id, "m.read", claim.event_id, claim.thread_id, ts_ms)


def room_of(pdu: Any) -> str | None:
    """The room that a PDU says it is of."""
    room_id = pdu.get("room_id") if type(pdu) is dict else None
    return room_id if type(room_id) is str and 1 < len(room_id) <= 255 and room_id[0] == "!" else None

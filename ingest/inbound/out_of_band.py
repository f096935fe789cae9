"""PDUs of rooms of which we hold no more than an invite or a knock: what answers it is taken, all else is dropped.

We cannot judge such an event by the room's state. It counts by what it cites: the very event that we hold, of the very
user it is about; so nobody who was not shown that one can take it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annals.ingest.inbound.intake import room_of
from annals.ingest.inbound.metrics import count
from annals.ingest.inbound.standing import Found
from annals.ingest.inbound.transaction import Transaction
from annals.ingest.pdu_facts import PDU, membership_received
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import Candidate, Verified
from annals.matrix.errors import MatrixError
from annals.matrix.identifiers import domain_of
from annals.schemas.facts.envelope import Envelope, Fact

_ANSWERS = frozenset(("leave", "ban"))


@dataclass(frozen=True, slots=True)
class OutOfBand:
    """What was taken: facts to log, and the ids of their events."""

    facts: Sequence[Fact] = ()
    event_ids: Sequence[str] = ()


async def take_answers(transaction: Transaction, found: Found, verifier: PduVerifier, envelope: Envelope) -> OutOfBand:
    """The facts of those PDUs that answer an invite or a knock that we hold."""
    if not found.asked:
        return OutOfBand()
    candidates = []
    for pdu in transaction.pdus:
        room_id = room_of(pdu)
        asked = found.asked.get(room_id) if room_id is not None else None
        if asked is not None and _answers(pdu, asked.held, transaction.origin):
            candidates.append(Candidate(pdu, asked.rules))
    outcomes = await verifier.verify(candidates) if candidates else []
    passed = [outcome for outcome in outcomes if isinstance(outcome, Verified)]
    count(PDU, "out_of_band", len(passed))
    facts = [membership_received(item, envelope, transaction.origin, transaction.via, b"[]", None) for item in passed]
    return OutOfBand(facts, [item.event.event_id for item in passed])


def _answers(pdu: dict[str, Any], held: Mapping[str, str], origin: str) -> bool:
    content, user_id, sender = pdu.get("content"), pdu.get("state_key"), pdu.get("sender")
    if pdu.get("type") != "m.room.member" or type(user_id) is not str or user_id not in held:
        return False
    if type(content) is not dict or content.get("membership") not in _ANSWERS or type(sender) is not str:
        return False
    try:
        if domain_of(sender) != origin:
            return False
    except MatrixError:
        return False
    return held[user_id] in _cited(pdu.get("prev_events")) | _cited(pdu.get("auth_events"))


def _cited(references: Any) -> set[str]:
    """Event ids; versions 1 and 2 have them in pairs with hashes."""
    found = set()
    for item in references if type(references) is list else ():
        event_id = item[0] if type(item) is list and item else item
        if type(event_id) is str:
            found.add(event_id)
    return found

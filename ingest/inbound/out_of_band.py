"""PDUs of rooms of which we hold no more than an invite or a knock: what answers it is taken, all else is dropped."""

from __future__ import annotations

from collections.abc import Callable

from annals.ingest.inbound.answering import rules_of_answer
from annals.ingest.inbound.intake import Taken, quarantine_into, room_of
from annals.ingest.inbound.metrics import count
from annals.ingest.inbound.standing import Found
from annals.ingest.inbound.transaction import Transaction
from annals.ingest.pdu_facts import PDU, membership_received
from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import Candidate, Verified
from annals.schemas.facts.envelope import Envelope


async def take_answers(
    transaction: Transaction, found: Found, verifier: PduVerifier, envelope: Envelope, may_keep: Callable[[int], bool]
) -> Taken:
    """What becomes of those PDUs that answer an invite or a knock that we hold; of the others nothing is said."""
    taken = Taken()
    candidates = [
        Candidate(pdu, rules)
        for pdu in transaction.pdus
        if (rules := rules_of_answer(found, room_of(pdu), pdu, transaction.origin)) is not None
    ]
    outcomes = await verifier.verify(candidates) if candidates else []
    for candidate, outcome in zip(candidates, outcomes, strict=True):
        if not isinstance(outcome, Verified):
            quarantine_into(taken, transaction, candidate, outcome, envelope, may_keep)
            continue
        count(PDU, "out_of_band")
        taken.facts.append(membership_received(outcome, envelope, transaction.origin, transaction.via, b"[]", None))
        taken.results[outcome.event.event_id] = {}
    return taken

"""A transaction as it came (server-server API, "Transactions"): its shape and its limits, nothing of its contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annals.ingest.pdu_facts import PUSHED

PDUS_MAX, EDUS_MAX = 50, 100
ENTRIES_MAX = 100_000
"""Receipts, presences, messages for devices in all EDUs together: as many as an honest server's fit into a body."""
_ID_CHARACTERS_MAX = 255


class TransactionRefused(Exception):
    """Nothing of the transaction is taken; `status` and `errcode` are the answer, and the message may be shown."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(message)
        self.status, self.errcode = status, errcode


@dataclass(frozen=True, slots=True)
class Transaction:
    """`pdus` and `edus` are whatever JSON came."""

    origin: str
    transaction_id: str
    pdus: list[Any]
    edus: list[Any]
    cause: str | None = None
    """The request's id."""
    entries: int = 0
    """How much the EDUs say, as `entries_of` counts."""

    @property
    def via(self) -> str:
        """How facts name it."""
        return PUSHED + self.transaction_id


def read_transaction(
    origin: str, transaction_id: str, content: dict[str, Any], cause: str | None = None
) -> Transaction:
    """The transaction in a request's body; raises TransactionRefused. Who sent it is what the request's signature
    says; what the body says of that counts for nothing."""
    if len(transaction_id) > _ID_CHARACTERS_MAX:
        raise TransactionRefused(400, "M_INVALID_PARAM", "The transaction id is too long")
    pdus, edus = content.get("pdus", []), content.get("edus", [])
    if type(pdus) is not list or type(edus) is not list:
        raise TransactionRefused(400, "M_BAD_JSON", "pdus and edus must be lists")
    # "there is a limit of 50 PDUs per transaction ... 100 EDUs per transaction"
    if len(pdus) > PDUS_MAX or len(edus) > EDUS_MAX:
        raise TransactionRefused(400, "M_BAD_JSON", f"More than {PDUS_MAX} PDUs or {EDUS_MAX} EDUs")
    # What is answered with 200 is taken, all of it: so there must be an end to how much that is.
    entries = entries_of(edus)
    if entries > ENTRIES_MAX:
        raise TransactionRefused(413, "M_TOO_LARGE", f"The EDUs say more than {ENTRIES_MAX} things")
    return Transaction(origin, transaction_id, pdus, edus, cause, entries)


def entries_of(edus: list[Any]) -> int:
    """How many things EDUs say: receipts by room and type, messages by user, presences, and one for whatever else."""
    return sum(_entries(edu.get("content")) if type(edu) is dict else 1 for edu in edus)


def _entries(content: Any) -> int:
    return sum(map(_in_value, content.values())) or 1 if type(content) is dict else 1


def _in_value(value: Any) -> int:
    if type(value) is list:
        return len(value) or 1
    if type(value) is not dict:
        return 1
    return sum(len(inner) or 1 if type(inner) is dict else 1 for inner in value.values()) or 1

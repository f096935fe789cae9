"""The fold of the receipts group: the last receipt of a key counts."""

from __future__ import annotations

from collections.abc import Iterable

from annals.projectors.folding import At, Overlay, Touch, UnknownFact
from annals.projectors.moved import Moved
from annals.projectors.receipts.tables import RECEIPTS
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.receipts import ReceiptSet


class ReceiptsProjection:
    """The table of receipts. Nothing is read: each fact is the whole row."""

    def touches(self, fact: Fact) -> Iterable[Touch]:
        """None."""
        return ()

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        """See Projection."""
        if not isinstance(fact, ReceiptSet):
            raise UnknownFact(type(fact).__name__)
        row = {
            "room_id": fact.room_id,
            "user_id": fact.user_id,
            "receipt_type": fact.receipt_type,
            "thread_id": fact.thread_id or "",
            "event_id": fact.event_id,
            "ts_ms": fact.ts_ms,
        }
        rows.put(RECEIPTS, {**row, **at.provenance()})

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        """None."""
        return ()

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        """A receipt is never taken back."""

    def moved(self, fact: Fact) -> Moved:
        """A private receipt concerns its user alone."""
        if not isinstance(fact, ReceiptSet):
            return Moved()
        private = fact.receipt_type == "m.read.private"
        return Moved(users={fact.user_id}) if private else Moved(rooms={fact.room_id})

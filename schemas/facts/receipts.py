"""Facts of topic `receipts`, keyed by room_id, compacted by room, user, type and thread."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact


@dataclass(frozen=True, slots=True)
class ReceiptSet(Fact):
    """`receipt_type` is m.read or m.read.private; `thread_id` is None for an unthreaded receipt."""

    room_id: str
    user_id: str
    receipt_type: str
    event_id: str
    thread_id: str | None
    ts_ms: int

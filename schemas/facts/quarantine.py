"""Facts of topic `quarantine`, keyed by origin: input that did not pass, kept for a while for who looks into it."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact, Sealable


@dataclass(frozen=True, slots=True)
class InputQuarantined(Fact):
    """Something that `origin` sent and that failed a check before the log.

    `kind` is pdu or edu; `via` the transaction or request it came by; `room_id`, `room_version` and `event_id` are None
    where they cannot be known. `original` is what came, as JSON: its beginning where it is larger than a record may be
    (`original_bytes` is the whole size). `retry_at_ms`: when to try it again by itself, for a key that could not be
    had; None where only an operator tries again.
    """

    origin: str
    kind: str
    via: str
    room_id: str | None
    room_version: str | None
    event_id: str | None
    reason: str
    detail: str
    retry_at_ms: int | None
    original: Sealable
    original_bytes: int


@dataclass(frozen=True, slots=True)
class QuarantineRetried(Fact):
    """The input at offset `source` of this partition went through every check again.

    `outcome` is released, expired, or the reason for which it stays; then `retry_at_ms` is as in InputQuarantined.
    """

    origin: str
    source: int
    outcome: str
    detail: str
    retry_at_ms: int | None

"""Facts of topic `rooms`, keyed by room_id."""

from __future__ import annotations

from dataclasses import dataclass

from annals.schemas.facts.envelope import Fact, Sealable


@dataclass(frozen=True, slots=True)
class SignatureChecked:
    """One signature of a PDU, and what came of checking it before the log."""

    server: str
    key_id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class RoomFact(Fact):
    """A fact about one room."""

    room_id: str


@dataclass(frozen=True, slots=True)
class PduFact(RoomFact):
    """A PDU, split so that `annals.matrix.record_parts.merge(skeleton, body)` is the exact event.

    `skeleton` and `body` are canonical JSON. `content_hash_ok` is False where the content hash failed: then the
    skeleton alone is judged and kept.
    """

    event_id: str
    room_version: str
    skeleton: bytes
    body: Sealable


@dataclass(frozen=True, slots=True)
class PduCreated(PduFact):
    """An event that this server built and signed for one of its users."""


@dataclass(frozen=True, slots=True)
class PduReceived(PduFact):
    """An event that another server pushed to us, verified before it was logged."""

    origin: str
    via: str
    signatures: tuple[SignatureChecked, ...]
    content_hash_ok: bool


@dataclass(frozen=True, slots=True)
class PduFetched(PduFact):
    """An event that we asked another server for. `purpose`: missing_events, backfill, state or auth.

    Events of a backfill are timeline events of the past; those of state and auth are outliers.
    """

    origin: str
    via: str
    purpose: str
    signatures: tuple[SignatureChecked, ...]
    content_hash_ok: bool


@dataclass(frozen=True, slots=True)
class EventRefused(RoomFact):
    """An event of ours, logged before, was refused when it was decided: the refusal lasts, its key is free again."""

    event_id: str
    refused_key: str | None
    rule: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class GapAbandoned(RoomFact):
    """These events cannot be had; what is parked behind them is dropped."""

    event_ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RoomResumed(RoomFact):
    """An operator lets a halted room go on, leaving out the facts at the offsets `skip`."""

    actor: str
    reason: str
    skip: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RoomForgotten(RoomFact):
    """A local user who is not in the room any more wants it out of sight."""

    user_id: str


@dataclass(frozen=True, slots=True)
class RoomRebuilt(RoomFact):
    """A switch of generations changed what the server believes of the room: tokens older than this get it as limited.

    It enters no hash and judges nothing: every generation takes it alike. `switch` is the switch's id.
    """

    switch: str

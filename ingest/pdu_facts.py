"""From what verification found to the facts that go on the log."""

from __future__ import annotations

from typing import Any

from annals.ingest.verification import KeyUnavailable, Quarantined, Reason, Verified
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import NotCanonical
from annals.matrix.hashing import event_bytes
from annals.matrix.quick import maker
from annals.matrix.record_parts import parts
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.quarantine import InputQuarantined
from annals.schemas.facts.rooms import MembershipReceived, PduFetched, PduReceived

ORIGINAL_BYTES_MAX = 60_000
"""A record of the log has 64 KiB, its envelope and the reason included."""

PDU = "pdu"

PUSHED = "transaction "
"""How the `via` of what another server pushed begins; its transaction's id follows."""

_TEXT_MAX = 255
_fetched = maker(PduFetched)


def pdu_received(verified: Verified, envelope: Envelope, origin: str, via: str) -> PduReceived:
    """The fact of a PDU that `origin` pushed to us, in the transaction (or handshake) `via`."""
    return PduReceived(envelope=envelope, origin=origin, via=via, **_parts(verified))


def pdu_fetched(verified: Verified, envelope: Envelope, origin: str, via: str, purpose: str) -> PduFetched:
    """The fact of a PDU that we asked `origin` for; `purpose` as in PduFetched."""
    return _fetched(envelope=envelope, origin=origin, via=via, purpose=purpose, **_parts(verified))


def membership_received(
    verified: Verified,
    envelope: Envelope,
    origin: str,
    via: str,
    room_state: bytes,
    handshake_id: str | None = None,
) -> MembershipReceived:
    """The fact of a member event of a user of ours in a room whose state we do not have; see MembershipReceived."""
    parts = _parts(verified)
    return MembershipReceived(
        envelope=envelope, origin=origin, via=via, room_state=room_state, handshake_id=handshake_id, **parts
    )


def pdu_quarantined(
    found: Quarantined | KeyUnavailable, pdu: Any, room_version: str | None, envelope: Envelope, origin: str, via: str
) -> InputQuarantined:
    """The fact of a PDU that did not pass. `pdu` is what came, whatever it is."""
    room_id = pdu.get("room_id") if type(pdu) is dict else None
    reason, retry_at_ms = (
        (found.reason, None) if isinstance(found, Quarantined) else (Reason.KEY_UNAVAILABLE, found.retry_at_ms)
    )
    return input_quarantined(
        pdu,
        kind=PDU,
        room_id=_text(room_id),
        room_version=room_version,
        event_id=_text(found.event_id),
        reason=reason,
        detail=found.detail,
        retry_at_ms=retry_at_ms,
        envelope=envelope,
        origin=origin,
        via=via,
    )


def input_quarantined(
    original: Any,
    *,
    kind: str,
    room_id: str | None,
    room_version: str | None,
    event_id: str | None,
    reason: str,
    detail: str,
    retry_at_ms: int | None,
    envelope: Envelope,
    origin: str,
    via: str,
) -> InputQuarantined:
    """The fact of any input that did not pass; the original is cut where it would not fit into a record."""
    text = _json(original)
    return InputQuarantined(
        envelope=envelope,
        origin=origin,
        kind=kind,
        via=via[:_TEXT_MAX],
        room_id=room_id,
        room_version=room_version,
        event_id=event_id,
        reason=str(reason),
        detail=_storable(detail)[:1000],
        retry_at_ms=retry_at_ms,
        original=text[:ORIGINAL_BYTES_MAX],
        original_bytes=len(text),
    )


def _parts(verified: Verified) -> dict[str, Any]:
    event = verified.event
    kept, rest = parts(event.pdu, event.rules)
    return {
        "room_id": event.room_id,
        "event_id": event.event_id,
        "room_version": event.rules.version,
        "skeleton": event_bytes(kept, event.rules),
        "body": event_bytes(rest, event.rules),
        "signatures": verified.signatures,
        "content_hash_ok": verified.content_hash_ok,
    }


def _json(value: Any) -> bytes:
    try:
        return canonical_bytes(value)
    except NotCanonical:
        return _storable(repr(value)).encode()


def _text(value: Any) -> str | None:
    """What may be an identifier; None for what is certainly none."""
    return value if type(value) is str and len(value) <= _TEXT_MAX and _storable(value) == value else None


def _storable(text: str) -> str:
    # Lone surrogates cannot be written; what JSON gave us has none, a repr of it might.
    return text.encode("utf-8", "replace").decode("utf-8")

"""Content hash, reference hash, event ids (server-server API, "Signing Events")."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from annals.matrix.canonical_json import canonical_bytes, checked_bytes
from annals.matrix.redaction import redact
from annals.matrix.room_versions import EventIdFormat, RoomRules

_NOT_IN_CONTENT_HASH = frozenset({"unsigned", "signatures", "hashes"})


def event_bytes(value: dict[str, Any], rules: RoomRules) -> bytes:
    """Canonical bytes of an event, or of parts of it.

    In strict room versions the event must have passed `check_strict` (`parse_event` and `build_event` see to it).
    """
    return checked_bytes(value) if rules.strict_canonical_json else canonical_bytes(value)


def content_hash(pdu: dict[str, Any], rules: RoomRules) -> str:
    """The content hash, as it stands in `hashes.sha256` (unpadded base64)."""
    # "First, any existing `unsigned`, `signatures`, and `hashes` properties are removed."
    covered = {key: value for key, value in pdu.items() if key not in _NOT_IN_CONTENT_HASH}
    return b64encode(sha256(event_bytes(covered, rules)).digest())[:43].decode("ascii")


def content_hash_matches(pdu: dict[str, Any], rules: RoomRules) -> bool:
    """Whether the event is whole. Where not, it is judged and kept in its redacted form (check 3 of a PDU)."""
    hashes = pdu.get("hashes")
    claimed = hashes.get("sha256") if type(hashes) is dict else None
    if type(claimed) is not str:
        return False
    # "implementations SHOULD accept input with or without padding characters"
    return compare_digest(claimed.rstrip("=").encode("utf-8", "replace"), content_hash(pdu, rules).encode("ascii"))


def signing_bytes(pdu: dict[str, Any], rules: RoomRules) -> bytes:
    """What signatures and the reference hash are over: the redacted event without `signatures` and `unsigned`."""
    redacted = redact(pdu, rules)
    redacted.pop("signatures", None)  # redaction drops `unsigned` in every room version
    return event_bytes(redacted, rules)


def reference_hash(pdu: dict[str, Any], rules: RoomRules) -> str:
    """The reference hash (unpadded base64): what events of versions 1 and 2 give beside an event id that they name."""
    return b64encode(sha256(signing_bytes(pdu, rules)).digest())[:43].decode("ascii")


def event_id_of(signed: bytes, rules: RoomRules) -> str:
    """The event id that belongs to `signing_bytes`, for room versions whose ids are hashes."""
    digest = sha256(signed).digest()
    # v4+: "encoded using URL-safe unpadded Base64"; v3: the standard alphabet
    encode = urlsafe_b64encode if rules.event_id_format is EventIdFormat.URL_SAFE_HASH else b64encode
    return "$" + encode(digest)[:43].decode("ascii")


def event_id(pdu: dict[str, Any], rules: RoomRules) -> str:
    """The id of an event: its reference hash (v3+), or what its sender chose (v1-2)."""
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        chosen: str = pdu["event_id"]
        return chosen
    return event_id_of(signing_bytes(pdu, rules), rules)

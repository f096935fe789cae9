"""Making events of our own: hashes, signature, id. Time and key are arguments."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from annals.matrix.canonical_json import check_strict
from annals.matrix.errors import InvalidEvent, NotCanonical
from annals.matrix.events import Event, event_of
from annals.matrix.format import EVENT_BYTES_MAX, check_fields
from annals.matrix.hashing import event_bytes, event_id_of, signing_bytes
from annals.matrix.room_versions import EventIdFormat, RoomRules
from annals.matrix.signing import SigningKey


def build_event(
    rules: RoomRules,
    *,
    room_id: str | None,
    sender: str,
    type: str,
    content: dict[str, Any],
    state_key: str | None,
    prev_events: Sequence[str],
    auth_events: Sequence[str],
    depth: int,
    origin_server_ts: int,
    server_name: str,
    key: SigningKey,
    redacts: str | None = None,
    reference_hashes: Mapping[str, str] | None = None,
) -> Event:
    """A signed event. `room_id` is None for a create where the room id is its hash; `content` becomes the event's.

    `redacts` goes where this room version keeps it. `reference_hashes`, for the versions that name events with their
    hashes (1 and 2): of all prev_events and auth_events, by id. Raises `InvalidEvent` for what other servers would
    drop.
    """
    pdu: dict[str, Any] = {
        "auth_events": _references(auth_events, rules, reference_hashes),
        "content": content,
        "depth": depth,
        "origin_server_ts": origin_server_ts,
        "prev_events": _references(prev_events, rules, reference_hashes),
        "sender": sender,
        "type": type,
    }
    if room_id is not None:
        pdu["room_id"] = room_id
    if state_key is not None:
        pdu["state_key"] = state_key
    if redacts is not None:
        # v11+: in the content; before: at the top level
        if rules.redacts_in_content:
            pdu["content"] = {**content, "redacts": redacts}
        else:
            pdu["redacts"] = redacts
    return _finish(pdu, rules, server_name, key)


def _finish(pdu: dict[str, Any], rules: RoomRules, server_name: str, key: SigningKey) -> Event:
    """Add hashes and signature to a PDU that has neither."""
    try:
        if rules.strict_canonical_json:
            check_strict(pdu)
        if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
            pdu["event_id"] = _chosen_id(event_bytes(pdu, rules), server_name)
        unhashed = event_bytes(pdu, rules)
        pdu["hashes"] = {"sha256": b64encode(sha256(unhashed).digest())[:43].decode("ascii")}
        signed = signing_bytes(pdu, rules)
    except NotCanonical as error:
        raise InvalidEvent(str(error)) from None
    pdu["signatures"] = {server_name: {key.key_id: key.sign(signed)}}
    check_fields(pdu, rules)
    # The bytes that the content hash is over, and two keys more: no need to write the event again to know its size.
    added = event_bytes({"hashes": pdu["hashes"], "signatures": pdu["signatures"]}, rules)
    if len(unhashed) + len(added) - 1 > EVENT_BYTES_MAX:
        raise InvalidEvent("the event is larger than 65536 bytes")
    return event_of(pdu, rules, pdu.get("event_id") or event_id_of(signed, rules))


def _references(event_ids: Sequence[str], rules: RoomRules, hashes: Mapping[str, str] | None) -> list[Any]:
    if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER:
        known = {} if hashes is None else hashes
        # Nobody checks them, and servers in use leave them out.
        return [[event_id, {"sha256": known[event_id]} if event_id in known else {}] for event_id in event_ids]
    return list(event_ids)


def _chosen_id(unnamed: bytes, server_name: str) -> str:
    """v1-2: "$opaque_id:domain". Of 144 bits of the event's own hash, so that no chance is needed to be unique."""
    return f"${urlsafe_b64encode(sha256(unnamed).digest()[:18]).decode('ascii')}:{server_name}"

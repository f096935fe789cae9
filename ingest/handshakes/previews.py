"""What a server sends along with a knock (or an invite) to show the room by. Pure but for verification.

"Entries which are improperly signed or formatted SHOULD be removed by the server prior to supplying them over the
Client-Server API." They are removed before the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.verification import Candidate, Verified
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import MatrixError
from annals.matrix.identifiers import is_user_id
from annals.matrix.room_versions import RoomRules

#: One record of the log holds them all, beside the member event.
BYTES_MAX = 24 << 10
ITEMS_MAX = 40
_STRIPPED_KEYS = ("type", "state_key", "sender", "content")


async def checked_preview(answered: Any, room_id: str, rules: RoomRules, pdus: PduVerifier) -> bytes:
    """Canonical JSON of a list: what of the answer is of this room and signed, as much as fits."""
    items = [item for item in answered if type(item) is dict][:ITEMS_MAX] if type(answered) is list else []
    full = [item for item in items if "signatures" in item]
    outcomes = await pdus.verify([Candidate(item, rules) for item in full])
    kept = [
        outcome.event.pdu
        for outcome in outcomes
        if isinstance(outcome, Verified) and outcome.event.is_state and outcome.event.room_id == room_id
    ]
    # Before 1.16, and of rooms before version 12: without signatures, and without the room's id to lie about.
    if not rules.room_id_is_create_hash:
        kept += [_stripped(item) for item in items if "signatures" not in item and _is_stripped(item)]
    return _fitting(kept)


def _is_stripped(item: dict[str, Any]) -> bool:
    return (
        type(item.get("type")) is str
        and type(item.get("state_key")) is str
        and type(item.get("sender")) is str
        and is_user_id(item["sender"])
        and type(item.get("content")) is dict
    )


def _stripped(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item[key] for key in _STRIPPED_KEYS}


def _fitting(items: Sequence[dict[str, Any]]) -> bytes:
    """The create event first: it says what the rest is."""
    texts: list[bytes] = []
    size = 2
    for item in sorted(items, key=lambda item: item["type"] != "m.room.create"):
        try:
            text = canonical_bytes(item)
        except MatrixError:
            continue
        if size + len(text) + 1 <= BYTES_MAX:
            texts.append(text)
            size += len(text) + 1
    return b"[" + b",".join(texts) + b"]"

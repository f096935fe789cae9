"""The state that is sent along with invites and knocks, to show a room by (security row 24).

Nobody has judged it and clients are shown it: what is no state event is left out, or refuses the invite, and what is
kept is small. From version 12 on its entries are PDUs, the m.room.create among them; before, only their bare bones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from annals.ingest.pdu_verifier import PduVerifier
from annals.ingest.resident.errors import InputRefused, invalid
from annals.ingest.verification import Candidate, KeyUnavailable, Outcome, Quarantined
from annals.matrix.canonical_json import strict_bytes
from annals.matrix.errors import NotCanonical
from annals.matrix.format import FIELD_BYTES_MAX, is_create, without_unsigned
from annals.matrix.identifiers import is_user_id
from annals.matrix.room_versions import RoomRules

ENTRIES_MAX = 100
#: Of all entries together; with the event itself it goes into one record of the log.
STATE_BYTES_MAX = 32 * 1024
_CREATE = "m.room.create"


async def room_state(verifier: PduVerifier, value: Any, room_id: str, rules: RoomRules) -> bytes:
    """What is kept of `invite_room_state` or `knock_room_state`: canonical JSON of a list of stripped events.

    Raises InputRefused where the room version asks for more than came.
    """
    entries = value if type(value) is list else []
    # "additional validation, which servers MAY apply to room versions 1 through 11 and SHOULD apply to all other room
    # versions"
    if rules.room_id_is_create_hash:
        entries = await _checked_pdus(verifier, value, room_id, rules)
    return _bounded([entry for entry in entries[:ENTRIES_MAX] if type(entry) is dict and _of_room(entry, room_id)])


async def _checked_pdus(verifier: PduVerifier, value: Any, room_id: str, rules: RoomRules) -> list[dict[str, Any]]:
    if value is None:
        raise InputRefused(400, "M_MISSING_PARAM", "The room's state is missing")
    if type(value) is not list or len(value) > ENTRIES_MAX or not all(type(entry) is dict for entry in value):
        raise invalid(f"The room's state is no list of at most {ENTRIES_MAX} events")
    outcomes = await verifier.verify([Candidate(without_unsigned(entry), rules) for entry in value])
    kept = []
    for entry, outcome in zip(value, outcomes, strict=True):
        pdu = _passed(entry, outcome, room_id)
        if pdu is not None:
            kept.append(pdu)
    # "The `m.room.create` event is missing from `invite_room_state`."
    if not any(is_create(pdu) for pdu in kept):
        raise InputRefused(400, "M_MISSING_PARAM", "The room's state has no m.room.create")
    return kept


def _passed(entry: dict[str, Any], outcome: Outcome, room_id: str) -> dict[str, Any] | None:
    """The event, None where nobody can tell now whether it is one."""
    if isinstance(outcome, Quarantined):
        raise invalid(f"An event of the room's state does not pass: {outcome.reason}")
    if isinstance(outcome, KeyUnavailable):
        # The room is named after the hash of its create event: whoever signed it, it is that one.
        return entry if is_create(entry) and outcome.event_id[1:] == room_id[1:] else None
    # "One or more events does not reside in the same room as the invite."
    if outcome.event.room_id != room_id:
        raise invalid("An event of the room's state is of another room")
    return outcome.event.pdu


def _of_room(entry: dict[str, Any], room_id: str) -> bool:
    return bool(entry.get("room_id", room_id) == room_id)


def _bounded(entries: Sequence[dict[str, Any]]) -> bytes:
    """The entries that fit, the most telling ones first: of a kind of event only the first counts."""
    texts: dict[tuple[str, str], bytes] = {}
    size_bytes = 0
    for entry in sorted(entries, key=lambda entry: entry.get("type") != _CREATE):
        stripped = _stripped(entry)
        key = (stripped["type"], stripped["state_key"]) if stripped else None
        if stripped is None or key is None or key in texts:
            continue
        try:
            text = strict_bytes(stripped)
        except NotCanonical:
            continue
        if size_bytes + len(text) <= STATE_BYTES_MAX:
            texts[key] = text
            size_bytes += len(text) + 1
    return b"[" + b",".join(texts.values()) + b"]"


def _stripped(entry: dict[str, Any]) -> dict[str, Any] | None:
    """What clients are shown of a state event; None for what is none."""
    event_type, state_key, sender, content = (entry.get(key) for key in ("type", "state_key", "sender", "content"))
    if type(event_type) is not str or type(state_key) is not str or type(content) is not dict:
        return None
    if type(sender) is not str or not is_user_id(sender) or max(len(event_type), len(state_key)) > FIELD_BYTES_MAX:
        return None
    return {"type": event_type, "state_key": state_key, "sender": sender, "content": content}

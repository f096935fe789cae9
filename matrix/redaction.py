"""The redaction algorithm: what remains of an event when its content is taken away.

Event ids and signatures are over what remains, so this also decides what they protect.
"""

from __future__ import annotations

from typing import Any

from annals.matrix.room_versions import RedactionRules, RoomRules

_EMPTY: frozenset[str] = frozenset()


def redact(pdu: dict[str, Any], rules: RoomRules) -> dict[str, Any]:
    """The redacted form of a PDU: a new object, whose kept values are those of `pdu` (not copied)."""
    # "the server must strip off any keys not in the following list"
    kept_keys = rules.redaction.event_keys
    redacted = {key: value for key, value in pdu.items() if key in kept_keys}
    content = pdu.get("content")
    redacted["content"] = redact_content(pdu.get("type"), content, rules.redaction) if type(content) is dict else {}
    return redacted


def redact_content(event_type: object, content: dict[str, Any], redaction: RedactionRules) -> dict[str, Any]:
    """What remains of the content of an event of this type."""
    # "The content object must also be stripped of all keys, unless it is one of the following event types"
    if type(event_type) is not str:
        return {}
    # v11+: "m.room.create allows all keys."
    if redaction.whole_create and event_type == "m.room.create":
        return content
    kept_keys = redaction.content_keys.get(event_type, _EMPTY)
    kept = {key: content[key] for key in kept_keys if key in content}
    # v11+: m.room.member "allows the `signed` key of the `third_party_invite` key."
    # NOTSPEC: of an object without `signed` an empty one stays, as in Synapse: event ids depend on it.
    if redaction.third_party_invite_signed and event_type == "m.room.member":
        invite = content.get("third_party_invite")
        if type(invite) is dict:
            kept["third_party_invite"] = {"signed": invite["signed"]} if "signed" in invite else {}
    return kept

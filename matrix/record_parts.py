"""An event in two parts, as the log keeps it: the skeleton that decisions need, and the body that may be sealed.

The skeleton is the redacted event plus everything that decisions read and redaction drops. So the event id, the
signatures and every verdict can be had from it alone, and erasing the body changes no room.
"""

from __future__ import annotations

from typing import Any

from annals.matrix.redaction import redact
from annals.matrix.room_versions import RoomRules

# What the auth rules (and, for m.room.policy, check 7 of a PDU) read and some room version's redaction drops.
_READ_BY_DECISIONS: dict[str, tuple[str, ...]] = {
    "m.room.create": ("room_version", "m.federate", "additional_creators"),
    "m.room.power_levels": ("invite", "notifications"),
    "m.room.member": ("join_authorised_via_users_server",),
    "m.room.third_party_invite": ("public_key", "public_keys"),
    "m.room.policy": ("via", "public_keys"),
}


def skeleton(pdu: dict[str, Any], rules: RoomRules) -> dict[str, Any]:
    """The part of a PDU that decisions need; `redact(skeleton)` equals `redact(pdu)`."""
    kept = redact(pdu, rules)
    content, kept_content, event_type = pdu["content"], kept["content"], pdu["type"]
    if kept_content is content:  # a create whose whole content survives redaction
        return kept
    for key in _READ_BY_DECISIONS.get(event_type, ()):
        if key in content:
            kept_content[key] = content[key]
    if event_type == "m.room.member" and "third_party_invite" in content:
        # The rules ask whether it is there, and whether it has `signed`; the display name beside it is personal.
        invite = content["third_party_invite"]
        signed_only = {"signed": invite["signed"]} if type(invite) is dict and "signed" in invite else {}
        kept_content["third_party_invite"] = signed_only if type(invite) is dict else invite
    # v1-2, rule 11: the auth rules judge what is redacted
    if rules.redaction_auth_rule and event_type == "m.room.redaction" and "redacts" in pdu:
        kept["redacts"] = pdu["redacts"]
    return kept


def body(pdu: dict[str, Any], rules: RoomRules) -> dict[str, Any]:
    """What the skeleton leaves out: `{}` where it is the whole event."""
    return parts(pdu, rules)[1]


def parts(pdu: dict[str, Any], rules: RoomRules) -> tuple[dict[str, Any], dict[str, Any]]:
    """(skeleton, body)."""
    kept = skeleton(pdu, rules)
    return kept, _rest(pdu, kept)


def _rest(pdu: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in pdu.items() if key not in kept}
    kept_content = kept["content"]
    if kept_content is pdu["content"]:
        return rest
    rest_content: dict[str, Any] = {}
    for key, value in pdu["content"].items():
        if key not in kept_content:
            rest_content[key] = value
        elif key == "third_party_invite" and pdu["type"] == "m.room.member" and type(value) is dict and value:
            rest_of_invite = {inner: value[inner] for inner in value if inner != "signed"}
            rest_content |= {key: rest_of_invite} if rest_of_invite else {}
    if rest_content:
        rest["content"] = rest_content
    return rest


def merge(skeleton: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The exact event again, of the two parts made from it."""
    if not body:
        return skeleton
    merged = {**skeleton, **body}
    rest_content = body.get("content")
    if rest_content is None:
        return merged
    kept_content = skeleton["content"]
    content = {**kept_content, **rest_content}
    if "third_party_invite" in kept_content and "third_party_invite" in rest_content:
        content["third_party_invite"] = {**kept_content["third_party_invite"], **rest_content["third_party_invite"]}
    merged["content"] = content
    return merged

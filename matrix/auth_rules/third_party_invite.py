"""Rule 4.4.1 (version 12: 5.4.1): an invitation that answers an m.room.third_party_invite.

An identity server bound an e-mail address or a telephone number to a user id and signed that: `signed` in the content,
by a key that the room's m.room.third_party_invite names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from annals.matrix.auth_rules.case import Case
from annals.matrix.auth_rules.rejection import Reason, Rejection
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import NotCanonical, SignatureInvalid
from annals.matrix.events import Event
from annals.matrix.power_levels import as_map
from annals.matrix.signing import VerifyKey

_RULE = "member.invite.1"


def check_third_party_invite(case: Case, target: str) -> Rejection | None:
    """Whether the invitation is what the identity server signed for the room's third-party invite."""
    # 1. If target user is banned, reject.
    if case.membership(target) == "ban":
        return case.reject(f"{_RULE}.1", Reason.BANNED)
    # 2. If content.third_party_invite does not have a signed property, reject.
    signed = as_map(case.event.content.get("third_party_invite")).get("signed")
    if not isinstance(signed, dict):
        return case.reject(f"{_RULE}.2", Reason.BAD_THIRD_PARTY_INVITE)
    # 3. If signed does not have mxid and token properties, reject.
    if "mxid" not in signed or "token" not in signed:
        return case.reject(f"{_RULE}.3", Reason.BAD_THIRD_PARTY_INVITE)
    # 4. If mxid does not match state_key, reject.
    if signed["mxid"] != target:
        return case.reject(f"{_RULE}.4", Reason.BAD_THIRD_PARTY_INVITE)
    # 5. If there is no m.room.third_party_invite event in the current room state with state_key matching token, reject.
    token = signed["token"]
    invite = case.auth.get(("m.room.third_party_invite", token)) if isinstance(token, str) else None
    if invite is None:
        return case.reject(f"{_RULE}.5", Reason.NO_THIRD_PARTY_INVITE)
    # 6. If sender does not match sender of the m.room.third_party_invite, reject.
    if case.event.sender != invite.sender:
        return case.reject(f"{_RULE}.6", Reason.OTHER_INVITER)
    # 7. If any signature in signed matches any public key in the m.room.third_party_invite event, allow.
    if _any_signature_matches(signed, invite):
        return None
    # 8. Otherwise, reject.
    return case.reject(f"{_RULE}.8", Reason.BAD_THIRD_PARTY_SIGNATURE)


def _any_signature_matches(signed: dict[str, Any], invite: Event) -> bool:
    # Synapse tries the other signatures only under the next public key once one has failed, so which of several counts
    # depends on the order of JSON keys there. We take the rule at its word.
    unsigned = {key: value for key, value in signed.items() if key not in ("signatures", "unsigned")}
    try:
        message = canonical_bytes(unsigned)
    except NotCanonical:
        return False
    signatures = list(_signatures(signed.get("signatures")))
    return any(_matches(key, message, signature) for key in _public_keys(invite.content) for signature in signatures)


def _signatures(value: object) -> Iterator[str]:
    """Every ed25519 signature, whoever made it."""
    for block in as_map(value).values():
        for key_id, signature in as_map(block).items():
            if key_id.startswith("ed25519:") and isinstance(signature, str):
                yield signature


def _public_keys(content: Mapping[str, Any]) -> Iterator[str]:
    """7.1. A single public key in the public_key property. 7.2. A list of public keys in public_keys."""
    listed = content.get("public_keys")
    candidates = [content.get("public_key")]
    candidates += [as_map(item).get("public_key") for item in (listed if isinstance(listed, list) else [])]
    return (candidate for candidate in candidates if isinstance(candidate, str))


def _matches(public_key: str, message: bytes, signature: str) -> bool:
    try:
        VerifyKey.from_base64("ed25519:third_party", public_key).verify(message, signature)
    except SignatureInvalid:
        return False
    return True

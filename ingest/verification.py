"""Checks 1 to 3 on a PDU of another server, made before it is on the log.

Pure: `prepare` says what a PDU is and which keys its signatures need, `judge` what came of them. What fails here goes
to quarantine, with the exception of the content hash: such an event is kept, and judged, in its redacted form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from annals.ingest.keyring import KeyMissing, KeyNeed, Lack
from annals.matrix.errors import InvalidEvent, SignatureInvalid
from annals.matrix.events import Event, event_of
from annals.matrix.format import EVENT_BYTES_MAX, check_format, without_unsigned
from annals.matrix.hashing import content_hash_matches, event_bytes, event_id_of, signing_bytes
from annals.matrix.identifiers import is_server_name
from annals.matrix.policy_servers import KEY_ID as POLICY_KEY_ID
from annals.matrix.quick import quick
from annals.matrix.redaction import redact
from annals.matrix.room_versions import EventIdFormat, RoomRules
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import required_signers, signature_key_ids
from annals.schemas.facts.rooms import SignatureChecked

VALID = "valid"
# A server signs with one key, or two while it changes them. More would make us ask for keys that nobody has.
KEY_IDS_A_SIGNER_MAX = 8

KeyLookup = Callable[[KeyNeed], KnownKey | KeyMissing | None]


class Reason(StrEnum):
    """Why a PDU is in quarantine. Stored, as strings."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    WRONG_ID = "wrong_event_id"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    KEY_NOT_VALID = "key_not_valid"
    KEY_COMPROMISED = "key_compromised"
    KEY_UNAVAILABLE = "key_unavailable"


@quick
@dataclass(frozen=True, slots=True)
class Candidate:
    """A PDU as it came, the rules of its room, and the id that it must have where we asked for it by id."""

    pdu: Any
    rules: RoomRules
    asked_for: str | None = None


@quick
@dataclass(frozen=True, slots=True)
class Verified:
    """A PDU that may go on the log. Where the content hash failed, `event` is the redacted one."""

    event: Event
    signatures: tuple[SignatureChecked, ...]
    content_hash_ok: bool


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A PDU that may not. `event_id` is None where none could be computed."""

    reason: Reason
    detail: str
    event_id: str | None


@dataclass(frozen=True, slots=True)
class KeyUnavailable:
    """A PDU whose signature nobody can check now: to be tried again, from the start."""

    event_id: str
    lacking: tuple[KeyNeed, ...]
    detail: str
    retry_at_ms: int


Outcome = Verified | Quarantined | KeyUnavailable


@quick
@dataclass(frozen=True, slots=True)
class Prepared:
    """A PDU of good format, before its signatures are checked."""

    event: Event
    signed: bytes
    """What signatures are over."""
    content_hash_ok: bool
    needs: tuple[tuple[KeyNeed, ...], ...]
    """For each server that must have signed: the keys by which it claims to have."""

    def all_needs(self) -> list[KeyNeed]:
        """All keys that could be of use."""
        return [need for of_signer in self.needs for need in of_signer]


def prepare(candidate: Candidate) -> Prepared | Quarantined:
    """Size, format, id, content hash, and who must have signed."""
    rules = candidate.rules
    if type(candidate.pdu) is not dict:
        return Quarantined(Reason.MALFORMED, "not an object", None)
    pdu = without_unsigned(candidate.pdu)
    try:
        check_format(pdu, rules)
        signed = signing_bytes(pdu, rules)
    except InvalidEvent as error:
        return Quarantined(_reason_of(pdu, rules), str(error), None)
    event_id = (
        pdu["event_id"] if rules.event_id_format is EventIdFormat.CHOSEN_BY_SENDER else event_id_of(signed, rules)
    )
    if candidate.asked_for is not None and event_id != candidate.asked_for:
        return Quarantined(Reason.WRONG_ID, f"asked for {candidate.asked_for}", event_id)
    # "3. Passes hash checks, otherwise it is redacted before being processed further."
    whole = content_hash_matches(pdu, rules)
    judged = pdu if whole else redact(pdu, rules)
    # Of both forms: a third-party invite needs no signature of its sender, and the redaction of one (up to version 10)
    # is an invite as any other, which does. By a wrong hash anybody could else invite in anybody's name.
    signers = required_signers(pdu, rules)
    if judged is not pdu:
        signers |= required_signers(judged, rules)
    until_ms = max(0, pdu["origin_server_ts"]) if rules.signing_key_validity else 0
    needs = []
    for signer in sorted(signers):
        key_ids = _key_ids(pdu, signer)[:KEY_IDS_A_SIGNER_MAX] if is_server_name(signer) else []
        if not key_ids:
            return Quarantined(Reason.SIGNATURE_MISSING, f"not signed by {signer[:255]}", event_id)
        needs.append(tuple(KeyNeed(signer, key_id, until_ms) for key_id in key_ids))
    return Prepared(event_of(judged, rules, event_id), signed, whole, tuple(needs))


def _key_ids(pdu: dict[str, Any], signer: str) -> list[str]:
    key_ids = sorted(signature_key_ids(pdu, signer))
    # "the policy server key is not expected to be published and therefore should be skipped at this stage"
    return [key_id for key_id in key_ids if key_id != POLICY_KEY_ID] or key_ids


def judge(prepared: Prepared, keys: KeyLookup) -> Outcome:
    """What the signatures say, by these keys. A key for which the look-up has None is unavailable.

    "2. Passes signature checks, otherwise it is dropped." Each server that must have signed needs one good signature,
    and none of its signatures that can be checked may be bad.
    """
    checked: list[SignatureChecked] = []
    unavailable: list[tuple[KeyNeed, KeyMissing | None]] = []
    for of_signer in prepared.needs:
        missing: list[tuple[KeyNeed, KeyMissing | None]] = []
        count = len(checked)
        for need in of_signer:
            key = keys(need)
            if not isinstance(key, KnownKey):
                if key is not None and key.lack is Lack.COMPROMISED:
                    return _refused(prepared, Reason.KEY_COMPROMISED, need)
                missing.append((need, key))
                continue
            try:
                key.key.verify(prepared.signed, _signature(prepared.event.pdu, need))
            except SignatureInvalid as error:
                return _refused(prepared, Reason.SIGNATURE_INVALID, need, str(error))
            checked.append(SignatureChecked(need.server, need.key_id, VALID))
        if len(checked) == count:
            if all(key is not None and key.retry_at_ms is None for _, key in missing):
                return _refused(prepared, Reason.KEY_NOT_VALID, missing[0][0])
            unavailable += missing
    if unavailable:
        return _unavailable(prepared, unavailable)
    return Verified(prepared.event, tuple(checked), prepared.content_hash_ok)


def _unavailable(prepared: Prepared, missing: list[tuple[KeyNeed, KeyMissing | None]]) -> KeyUnavailable:
    times = [key.retry_at_ms for _, key in missing if key is not None and key.retry_at_ms is not None]
    detail = ", ".join(f"{need.server} {need.key_id[:100]}: {key.lack if key else 'unknown'}" for need, key in missing)
    return KeyUnavailable(
        prepared.event.event_id, tuple(need for need, _ in missing), detail[:1000], min(times, default=0)
    )


def _refused(prepared: Prepared, reason: Reason, need: KeyNeed, why: str = "") -> Quarantined:
    return Quarantined(reason, f"{need.server} {need.key_id[:255]} {why}".rstrip(), prepared.event.event_id)


def _signature(pdu: dict[str, Any], need: KeyNeed) -> str:
    # Redaction keeps signatures, in every room version.
    signature = pdu["signatures"][need.server][need.key_id]
    if type(signature) is not str:
        raise SignatureInvalid("the signature is not a string")
    return signature


def _reason_of(pdu: dict[str, Any], rules: RoomRules) -> Reason:
    """Size and shape are told apart for who reads the quarantine; the check itself knows one error only."""
    try:
        return Reason.TOO_LARGE if len(event_bytes(pdu, rules)) > EVENT_BYTES_MAX else Reason.MALFORMED
    except ValueError:
        return Reason.MALFORMED

"""Checks on a PDU before the log: against the reference implementation, and case by case."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from annals.ingest.keyring import KeyMissing, KeyNeed, Lack
from annals.ingest.verification import (
    Candidate,
    KeyUnavailable,
    Outcome,
    Prepared,
    Quarantined,
    Reason,
    Verified,
    judge,
    prepare,
)
from annals.matrix.errors import InvalidEvent
from annals.matrix.events import body, merge, skeleton
from annals.matrix.format import check_format
from annals.matrix.hashing import content_hash, event_id
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.matrix.server_keys import KnownKey
from annals.matrix.signing import VerifyKey, required_signers
from annals.schemas.facts.rooms import SignatureChecked
from tests.support import pdu_strategies
from tests.support.scripted_peer import public_base64, reference_key

A, B = "a.example", "b.example:8448"
KEYS = {
    (A, "1"): reference_key("1", b"\1" * 32),
    (A, "2"): reference_key("2", b"\2" * 32),
    (B, "1"): reference_key("1", b"\3" * 32),
}
STRANGER = reference_key("1", b"\4" * 32)
NEVER = 2**62
V5, V10, V12 = (ROOM_VERSIONS[version] for version in ("5", "10", "12"))


def known(server: str, version: str, until_ms: int = NEVER) -> KnownKey:
    key_id = f"ed25519:{version}"
    key = VerifyKey.from_base64(key_id, public_base64(KEYS[server, version]))
    return KnownKey(key, until_ms, True, True, 0)


def every_key(need: KeyNeed) -> KnownKey | KeyMissing:
    version = need.key_id.partition(":")[2]
    if (need.server, version) in KEYS:
        return known(need.server, version)
    return KeyMissing(Lack.NOT_PUBLISHED, 77)


def signed(pdu: dict[str, Any], rules: RoomRules, *signers: tuple[str, str], key: Any = None) -> dict[str, Any]:
    """The PDU with its content hash and the reference implementation's signatures."""
    pdu = {**deepcopy(pdu), "signatures": {}}
    pdu["hashes"] = {"sha256": content_hash(pdu, rules)}
    redacted = redact(pdu, rules)
    for server, version in signers:
        redacted = signedjson.sign.sign_json(deepcopy(redacted), server, key or KEYS[server, version])
    return {**pdu, "signatures": redacted["signatures"]}


def message(rules: RoomRules = V10, **changes: Any) -> dict[str, Any]:
    pdu = {
        "type": "m.room.message",
        "sender": "@alice:a.example",
        "room_id": "!" + "r" * 43,
        "content": {"body": "hello"},
        "depth": 3,
        "origin_server_ts": 1000,
        "prev_events": ["$" + "p" * 43],
        "auth_events": ["$" + "a" * 43],
    }
    return {**pdu, **changes}


def outcome(pdu: Any, rules: RoomRules = V10, keys: Any = every_key, asked_for: str | None = None) -> Outcome:
    prepared = prepare(Candidate(pdu, rules, asked_for))
    return judge(prepared, keys) if isinstance(prepared, Prepared) else prepared


def reason(pdu: Any, rules: RoomRules = V10, keys: Any = every_key) -> Reason:
    found = outcome(pdu, rules, keys)
    assert isinstance(found, Quarantined), found
    return found.reason


def reference_accepts(pdu: dict[str, Any], rules: RoomRules, server: str) -> bool:
    try:
        for version in ("1", "2"):
            if f"ed25519:{version}" in pdu["signatures"].get(server, {}):
                key = signedjson.key.get_verify_key(KEYS[server, version])
                signedjson.sign.verify_signed_json(deepcopy(redact(pdu, rules)), server, key)
    except signedjson.sign.SignatureVerifyException:
        return False
    return server in pdu["signatures"]


@given(st.data())
def test_signatures_are_judged_as_by_the_reference_implementation(data: st.DataObject) -> None:
    rules = data.draw(pdu_strategies.rules)
    pdu = data.draw(pdu_strategies.pdus(rules))
    pdu.pop("unsigned", None)
    signers = data.draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=3, unique=True))
    pdu = signed(
        pdu,
        rules,
        *signers,
        key=data.draw(st.sampled_from([None, None, None, STRANGER])) if len(signers) == 1 else None,
    )
    if data.draw(st.booleans()):
        pdu["depth"] = data.draw(st.integers(0, 2**53 - 2))
    try:
        check_format(pdu, rules)
    except InvalidEvent:
        assert isinstance(outcome(pdu, rules), Quarantined)
        return
    ours = outcome(pdu, rules)
    needed = required_signers(pdu, rules)
    if all(reference_accepts(pdu, rules, server) for server in needed if server in (A, B)) and needed <= {A, B}:
        # A third-party invite whose hash is wrong needs more signers than it says.
        assert isinstance(ours, Verified) or (not needed and isinstance(ours, Quarantined)), ours
        if isinstance(ours, Verified):
            assert ours.event.event_id == event_id(pdu, rules)
            assert {check.server for check in ours.signatures} >= needed
    else:
        assert isinstance(ours, Quarantined), ours


def test_a_good_event_is_kept_as_it_came_without_unsigned() -> None:
    pdu = signed(message(), V10, (A, "1"))
    found = outcome({**pdu, "unsigned": {"age": 5}})
    assert isinstance(found, Verified)
    assert found.event.pdu == pdu
    assert found.content_hash_ok
    assert found.signatures == (SignatureChecked(A, "ed25519:1", "valid"),)
    assert merge(skeleton(found.event.pdu, V10), body(found.event.pdu, V10)) == pdu


@pytest.mark.parametrize("rules", ROOM_VERSIONS.values(), ids=repr)
def test_a_wrong_content_hash_keeps_the_redacted_event(rules: RoomRules) -> None:
    base = message()
    if rules.version in ("1", "2"):
        base |= {"event_id": "$e:a.example", "prev_events": [], "auth_events": []}
    pdu = signed(base, rules, (A, "1"))
    changed = {**pdu, "content": {"body": "changed on the way"}}
    found = outcome(changed, rules)
    assert isinstance(found, Verified)
    assert (found.content_hash_ok, found.event.content) == (False, {})
    assert found.event.event_id == event_id(pdu, rules)
    assert found.event.pdu == redact(pdu, rules)
    assert body(found.event.pdu, rules) in ({}, {"content": {}})


def test_nobody_invites_in_anothers_name_by_a_third_party_invite_with_a_wrong_hash() -> None:
    invite = message(
        type="m.room.member", state_key="@b:b.example", content={"membership": "invite", "third_party_invite": {}}
    )
    forged = signed(invite, V10)
    assert isinstance(outcome(forged), Verified)  # no signature is needed: the auth rules look at the token
    forged["hashes"] = {"sha256": "x" * 43}
    assert reason(forged) is Reason.SIGNATURE_MISSING


@pytest.mark.parametrize(
    ("pdu", "why"),
    [
        (None, Reason.MALFORMED),
        ([], Reason.MALFORMED),
        ({}, Reason.MALFORMED),
        (message(depth=1.5), Reason.MALFORMED),
        (message(depth=2**53), Reason.MALFORMED),
        (message(sender="alice"), Reason.MALFORMED),
        (message(event_id="$x"), Reason.MALFORMED),
        (message(content={"body": "x" * 66_000}), Reason.TOO_LARGE),
    ],
)
def test_what_is_no_event_is_said_to_be_none(pdu: Any, why: Reason) -> None:
    pdu = signed(pdu, V10, (A, "1")) if isinstance(pdu, dict) and pdu.get("depth") == 3 else pdu
    found = outcome(pdu)
    assert isinstance(found, Quarantined)
    assert (found.reason, found.event_id) == (why, None)


def test_unsigned_does_not_count_towards_the_size() -> None:
    pdu = signed(message(), V10, (A, "1"))
    assert isinstance(outcome({**pdu, "unsigned": {"x": "y" * 70_000}}), Verified)


@given(pdu_strategies.any_values | st.dictionaries(st.sampled_from(sorted(message())), pdu_strategies.any_values))
def test_any_json_gets_an_outcome(value: Any) -> None:
    for rules in (ROOM_VERSIONS["1"], V5, V10, V12):
        pdus = (value, {**signed(message(), V10, (A, "1")), **value} if isinstance(value, dict) else value)
        for pdu in pdus:
            assert isinstance(outcome(pdu, rules), Verified | Quarantined | KeyUnavailable)


def test_every_kind_of_bad_signature() -> None:
    good = signed(message(), V10, (A, "1"))
    assert reason(signed(message(), V10)) is Reason.SIGNATURE_MISSING
    assert reason(signed(message(), V10, (B, "1"))) is Reason.SIGNATURE_MISSING
    assert reason(signed(message(), V10, (A, "1"), key=STRANGER)) is Reason.SIGNATURE_INVALID
    assert reason({**good, "depth": 4}) is Reason.SIGNATURE_INVALID
    for bad in ("", "AAAA", "%%", 7, None):
        assert reason({**good, "signatures": {A: {"ed25519:1": bad}}}) is Reason.SIGNATURE_INVALID
    assert reason({**good, "signatures": {A: {"rsa:1": "x"}}}) is Reason.SIGNATURE_MISSING


def test_one_bad_signature_beside_a_good_one_is_one_too_many() -> None:
    pdu = signed(message(), V10, (A, "1"), (A, "2"))
    assert isinstance(outcome(pdu), Verified)
    pdu["signatures"][A]["ed25519:2"] = pdu["signatures"][A]["ed25519:1"]
    assert reason(pdu) is Reason.SIGNATURE_INVALID


def test_a_signature_by_a_key_that_cannot_be_had_beside_a_good_one_does_no_harm() -> None:
    pdu = signed(message(), V10, (A, "1"))
    pdu["signatures"][A]["ed25519:0"] = "x"
    found = outcome(pdu)
    assert isinstance(found, Verified)
    assert found.signatures == (SignatureChecked(A, "ed25519:1", "valid"),)


def test_a_key_that_cannot_be_had_is_no_bad_signature() -> None:
    pdu = signed(message(), V10, (A, "1"))
    for lack in (Lack.UNREACHABLE, Lack.NOT_PUBLISHED, Lack.NOT_VALID):
        found = outcome(pdu, keys=lambda _, lack=lack: KeyMissing(lack, 99))
        assert isinstance(found, KeyUnavailable)
        assert (found.retry_at_ms, found.lacking) == (99, (KeyNeed(A, "ed25519:1", 1000),))
    assert reason(pdu, keys=lambda _: KeyMissing(Lack.NOT_VALID, None)) is Reason.KEY_NOT_VALID
    assert reason(pdu, keys=lambda _: KeyMissing(Lack.COMPROMISED, None)) is Reason.KEY_COMPROMISED


@pytest.mark.parametrize(("version", "until_ms"), [("1", 0), ("4", 0), ("5", 1000), ("12", 1000)])
def test_the_time_of_the_event_counts_from_version_5_on(version: str, until_ms: int) -> None:
    rules = ROOM_VERSIONS[version]
    pdu = message()
    if version == "1":
        pdu |= {"event_id": "$e:a.example", "prev_events": [], "auth_events": []}
    prepared = prepare(Candidate(signed(pdu, rules, (A, "1")), rules))
    assert isinstance(prepared, Prepared)
    assert prepared.all_needs() == [KeyNeed(A, "ed25519:1", until_ms)]


def test_the_server_of_the_event_id_and_the_authorising_server_must_sign_too() -> None:
    v1 = ROOM_VERSIONS["1"]
    old = message(event_id="$e:b.example:8448", prev_events=[], auth_events=[])
    assert reason(signed(old, v1, (A, "1")), v1) is Reason.SIGNATURE_MISSING
    assert isinstance(outcome(signed(old, v1, (A, "1"), (B, "1")), v1), Verified)
    content = {"membership": "join", "join_authorised_via_users_server": "@bob:b.example:8448"}
    join = message(type="m.room.member", state_key="@alice:a.example", content=content)
    assert reason(signed(join, V10, (A, "1"))) is Reason.SIGNATURE_MISSING
    assert isinstance(outcome(signed(join, V10, (A, "1"), (B, "1"))), Verified)


def test_an_answer_must_be_the_event_that_was_asked_for() -> None:
    pdu = signed(message(), V10, (A, "1"))
    found = outcome(pdu, asked_for="$" + "o" * 43)
    assert isinstance(found, Quarantined)
    assert found.reason is Reason.WRONG_ID
    assert isinstance(outcome(pdu, asked_for=event_id(pdu, V10)), Verified)


def test_a_hundred_key_ids_are_not_a_hundred_questions() -> None:
    pdu = signed(message(), V10, (A, "1"))
    pdu["signatures"][A] |= {f"ed25519:x{i}": "y" for i in range(100)}
    prepared = prepare(Candidate(pdu, V10))
    assert isinstance(prepared, Prepared)
    assert len(prepared.all_needs()) == 8


def test_the_signature_of_a_policy_server_is_not_looked_at_here() -> None:
    # Its key is published by nobody; nobody shall be asked for it.
    pdu = signed(message(), V10, (A, "1"))
    pdu["signatures"][A]["ed25519:policy_server"] = "nothing"
    prepared = prepare(Candidate(pdu, V10))
    assert isinstance(prepared, Prepared)
    assert [need.key_id for needs in prepared.needs for need in needs] == ["ed25519:1"]
    assert isinstance(judge(prepared, every_key), Verified)
    del pdu["signatures"][A]["ed25519:1"]
    alone = prepare(Candidate(pdu, V10))
    assert isinstance(alone, Prepared)
    assert isinstance(judge(alone, every_key), KeyUnavailable), "it stands in for no other"

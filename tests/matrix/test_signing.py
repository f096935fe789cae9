"""Signatures: the spec's vectors, the reference implementation, and who must have signed."""

from __future__ import annotations

import json
from base64 import b64decode
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from annals.matrix.errors import SignatureInvalid
from annals.matrix.hashing import content_hash, content_hash_matches, signing_bytes
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS, V10, V12
from annals.matrix.signing import (
    SigningKey,
    VerifyKey,
    decode_base64,
    required_signers,
    sign_event,
    sign_json,
    signature_key_ids,
    verify_event,
    verify_json,
)
from tests.support import pdu_strategies
from tests.support.at_once import at_once

VECTORS = json.loads((Path(__file__).parent / "vectors" / "spec-appendix.json").read_text())
KEY = SigningKey(VECTORS["key_id"], b64decode(VECTORS["signing_key_seed"] + "="))
SERVER = VECTORS["server_name"]
REFERENCE_KEY = signedjson.key.decode_signing_key_base64("ed25519", "1", VECTORS["signing_key_seed"])


@pytest.mark.parametrize("vector", VECTORS["json_signing"])
def test_json_is_signed_as_in_the_appendix(vector: dict[str, Any]) -> None:
    signed = sign_json(vector["input"], SERVER, KEY)
    assert signed == vector["signed"]
    verify_json(signed, SERVER, KEY.verify_key)


@pytest.mark.parametrize("vector", VECTORS["event_signing"])
@at_once("rules", ROOM_VERSIONS.values())
def test_events_are_signed_as_in_the_appendix(vector: dict[str, Any], rules: Any) -> None:
    pdu = {**vector["input"], "hashes": {"sha256": content_hash(vector["input"], rules)}}
    assert pdu["hashes"] == vector["signed"]["hashes"]
    signed = sign_event(pdu, rules, SERVER, KEY)
    # The vectors have `origin`, which redaction keeps up to version 10.
    assert (signed == vector["signed"]) == (rules.version in vector["room_versions"])
    verify_event(signed, rules, SERVER, KEY.verify_key)
    assert content_hash_matches(signed, rules)


@given(st.data())
def test_signatures_are_those_of_the_reference_implementation(data: st.DataObject) -> None:
    rules = data.draw(pdu_strategies.rules)
    pdu = data.draw(pdu_strategies.pdus(rules))
    ours = sign_event(pdu, rules, SERVER, KEY)["signatures"][SERVER]
    theirs = signedjson.sign.sign_json(deepcopy(redact(pdu, rules)), SERVER, REFERENCE_KEY)
    assert ours == theirs["signatures"][SERVER]
    signedjson.sign.verify_signed_json(theirs, SERVER, signedjson.key.get_verify_key(REFERENCE_KEY))
    verify_event(theirs, rules, SERVER, KEY.verify_key)


def pdu(**changes: Any) -> dict[str, Any]:
    base = {"type": "m.room.message", "sender": "@a:domain", "content": {"body": "hello"}, "room_id": "!r:elsewhere"}
    return {**base, "depth": 1, "hashes": {"sha256": "x"}, **changes}


def test_what_redaction_drops_is_not_signed_and_the_rest_is() -> None:
    signed = sign_event(pdu(), V10, SERVER, KEY)
    verify_event({**signed, "content": {"body": "other"}, "unsigned": {"age": 1}}, V10, SERVER, KEY.verify_key)
    for changed in ({"depth": 2}, {"sender": "@b:domain"}, {"hashes": {"sha256": "y"}}, {"room_id": "!s:elsewhere"}):
        with pytest.raises(SignatureInvalid):
            verify_event({**signed, **changed}, V10, SERVER, KEY.verify_key)


def test_signing_leaves_its_input_alone_and_keeps_other_signatures() -> None:
    before = pdu(signatures={"other": {"ed25519:2": "s"}, SERVER: {"ed25519:0": "t"}})
    kept = deepcopy(before)
    signatures = sign_event(before, V12, SERVER, KEY)["signatures"]
    assert before == kept
    assert signatures["other"] == {"ed25519:2": "s"}
    assert set(signatures[SERVER]) == {"ed25519:0", "ed25519:1"}


@pytest.mark.parametrize(
    "signatures",
    [
        *(None, [], {}, {SERVER: None}, {SERVER: {}}, {"else": {"ed25519:1": "A" * 86}}, {SERVER: {"ed25519:2": "A"}}),
        *({SERVER: {"ed25519:1": signature}} for signature in (None, 1, "", "A", "A" * 86, "!" * 86, "A" * 200, "é")),
    ],
)
def test_missing_and_malformed_signatures_are_invalid(signatures: Any) -> None:
    with pytest.raises(SignatureInvalid):
        verify_event(pdu(signatures=signatures), V12, SERVER, KEY.verify_key)


def test_bytes_that_a_caller_has_already_are_used() -> None:
    signed = sign_event(pdu(), V12, SERVER, KEY)
    verify_event(signed, V12, SERVER, KEY.verify_key, signing_bytes(signed, V12))
    with pytest.raises(SignatureInvalid):
        verify_event(signed, V12, SERVER, KEY.verify_key, b"other")


def test_keys_are_read_as_servers_publish_them() -> None:
    published = KEY.verify_key
    assert VerifyKey.from_base64(published.key_id, published.base64) == published
    for key_id, text in (("ed25519:1", "short"), ("ed25519:1", "!"), ("curve:1", published.base64)):
        with pytest.raises(SignatureInvalid):
            VerifyKey.from_base64(key_id, text)


def test_a_secret_does_not_show() -> None:
    assert repr(KEY) == "SigningKey(key_id='ed25519:1')"


def test_base64_is_read_with_and_without_padding_in_both_alphabets() -> None:
    assert [decode_base64(text) for text in ("+/8", "+/8=", "-_8")] == [b"\xfb\xff"] * 3


def test_keys_of_unknown_algorithms_are_not_listed() -> None:
    signatures = {SERVER: {"ed25519:1": "", "rsa:1": "", "ed25519": ""}}
    assert signature_key_ids(pdu(signatures=signatures), SERVER) == ["ed25519:1"]
    assert signature_key_ids(pdu(signatures=signatures), "else") == signature_key_ids(pdu(), SERVER) == []


SENDER, AUTHORISER = "domain", "auth:8448"
MEMBER = "m.room.member"


@pytest.mark.parametrize(
    ("event_type", "content", "signers"),
    [
        ("m.room.message", {}, {SENDER}),
        ("m.room.message", {"join_authorised_via_users_server": "@x:auth:8448"}, {SENDER}),
        (MEMBER, {"membership": "join"}, {SENDER}),
        (MEMBER, {"membership": "join", "join_authorised_via_users_server": "@x:auth:8448"}, {SENDER, AUTHORISER}),
        (MEMBER, {"membership": "leave", "join_authorised_via_users_server": "@x:auth:8448"}, {SENDER}),
        (MEMBER, {"membership": "join", "join_authorised_via_users_server": "nobody"}, {SENDER}),
        (MEMBER, {"membership": "join", "join_authorised_via_users_server": 1}, {SENDER}),
        (MEMBER, {"membership": "invite"}, {SENDER}),
        (MEMBER, {"membership": "invite", "third_party_invite": {}}, set()),
        (MEMBER, {"membership": "join", "third_party_invite": {}}, {SENDER}),
        ("m.room.message", {"membership": "invite", "third_party_invite": {}}, {SENDER}),
    ],
)
def test_who_must_have_signed(event_type: str, content: dict[str, Any], signers: set[str]) -> None:
    # The room id's domain is never among them.
    event = pdu(type=event_type, content=content)
    for rules in ROOM_VERSIONS.values():
        expected = signers if rules.restricted_join else signers - {AUTHORISER}
        if int(rules.version) < 3:
            expected = expected | {"named:8448"}
        assert required_signers(event | {"event_id": "$e:named:8448"}, rules) == expected

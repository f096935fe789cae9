"""Rule 4.4.1 (version 12: 5.4.1): alice invited an address; the identity server says that it is carol's."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from annals.matrix.auth_rules import allowed
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.signing import encode_base64
from tests.matrix.auth_rules.cast import room_with
from tests.matrix.auth_rules.tables import rule_of
from tests.support.room_events import user

KEY, OTHER_KEY = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
VERSIONS = [("10", "4.4.1"), ("11", "4.4.1"), ("12", "5.4.1")]


def public(key: SigningKey) -> str:
    return encode_base64(key.verify_key.encode())


def signed_by(key: SigningKey, value: dict[str, Any], key_id: str = "ed25519:0") -> dict[str, Any]:
    signature = encode_base64(key.sign(canonical_bytes(value)).signature)
    return value | {"signatures": {"id.example": {key_id: signature}}}


def judge(
    version: str, invite: Any, keys: dict[str, Any], *, target: str = "carol", sender: str = "alice", token: str = "t"
) -> str:
    room, state = room_with(version, {"rule": "invite"})
    state["m.room.third_party_invite", token] = room.state("m.room.third_party_invite", token, "alice", keys)
    content = {"membership": "invite", "third_party_invite": invite}
    return rule_of(allowed(room.event("$E", "m.room.member", sender, user(target), content), state))


@pytest.mark.parametrize(("version", "rule"), VERSIONS)
def test_each_rule(version: str, rule: str) -> None:
    keys = {"public_key": public(KEY)}
    good = signed_by(KEY, {"mxid": "@carol:c", "token": "t"})
    assert judge(version, {"signed": good}, keys) == "ok"
    dave = signed_by(KEY, {"mxid": "@dave:d", "token": "t"})
    assert judge(version, {"signed": dave}, keys, target="dave") == f"{rule}.1"
    assert judge(version, {}, keys) == judge(version, None, keys) == judge(version, [good], keys) == f"{rule}.2"
    assert judge(version, {"signed": {"token": "t"}}, keys) == f"{rule}.3"
    assert judge(version, {"signed": {"mxid": "@carol:c"}}, keys) == f"{rule}.3"
    assert judge(version, {"signed": good}, keys, target="gina") == f"{rule}.4"
    assert judge(version, {"signed": good}, keys, token="other") == f"{rule}.5"
    assert judge(version, {"signed": good | {"token": ["t"]}}, keys) == f"{rule}.5"
    assert judge(version, {"signed": good}, keys, sender="mod") == f"{rule}.6"
    assert judge(version, {"signed": good | {"more": 1}}, keys) == f"{rule}.8"
    assert judge(version, {"signed": signed_by(OTHER_KEY, {"mxid": "@carol:c", "token": "t"})}, keys) == f"{rule}.8"


@pytest.mark.parametrize("keys", [
    {"public_keys": [{"public_key": public(OTHER_KEY)}, {"public_key": public(KEY)}]},
    {"public_key": public(OTHER_KEY), "public_keys": [{"public_key": public(KEY)}]},
    {"public_key": 1, "public_keys": [None, {}, {"public_key": "?"}, {"public_key": public(KEY) + "="}]},
])  # fmt: skip
def test_any_key_will_do(keys: dict[str, Any]) -> None:
    assert judge("11", {"signed": signed_by(KEY, {"mxid": "@carol:c", "token": "t"})}, keys) == "ok"


@pytest.mark.parametrize("signatures", [
    None, [], {}, {"x": None}, {"x": {"ed25519:0": None}}, {"x": {"ed25519:0": "AAAA"}},
    {"x": {"ed25519:0": "\ud800é"}},
])  # fmt: skip
@pytest.mark.parametrize("keys", [{}, {"public_keys": {}}, {"public_key": "AAAA"}, {"public_key": public(KEY)}])
def test_no_signature_is_none(signatures: Any, keys: dict[str, Any]) -> None:
    signed = {"mxid": "@carol:c", "token": "t", "signatures": signatures}
    assert judge("11", {"signed": signed}, keys) == "4.4.1.8"


def test_any_signature_will_do_and_only_of_ed25519() -> None:
    value = {"mxid": "@carol:c", "token": "t"}
    good = signed_by(KEY, value)
    good["signatures"] = {"x": {"ed25519:0": "AAAA"}} | good["signatures"] | {"y": {"ed25519:1": "AAAA"}}
    assert judge("11", {"signed": good}, {"public_key": public(KEY)}) == "ok"
    assert judge("11", {"signed": signed_by(KEY, value, "rsa:0")}, {"public_key": public(KEY)}) == "4.4.1.8"

"""What a room's state and an event say of policy servers."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.events import Event, event_of
from annals.matrix.policy_servers import KEY_ID, PolicyServer, is_exempt, is_signed_by, named_by, with_signature
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import SigningKey, sign_event
from tests.support.at_once import at_once
from tests.support.room_weaver import ALICE, plain_room

KEY = SigningKey(KEY_ID, b"\3" * 32)
SERVER = PolicyServer("peer", KEY.verify_key.base64)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"via": "peer", "public_keys": {"ed25519": "abc"}}, PolicyServer("peer", "abc")),
        ({"via": "peer", "public_keys": {"ed25519": "abc", "new": "x"}, "more": 1}, PolicyServer("peer", "abc")),
        ({}, None),
        ({"via": "peer"}, None),
        ({"public_keys": {"ed25519": "abc"}}, None),
        ({"via": 7, "public_keys": {"ed25519": "abc"}}, None),
        ({"via": "peer", "public_keys": "abc"}, None),
        ({"via": "peer", "public_keys": {}}, None),
        ({"via": "peer", "public_keys": {"ed25519": None}}, None),
        ({"via": "peer", "public_key": "abc"}, None),
    ],
)
def test_who_is_named(content: dict[str, Any], named: PolicyServer | None) -> None:
    assert named_by(content) == named


@pytest.mark.parametrize(
    ("event_type", "state_key", "exempt"),
    [
        ("m.room.policy", "", True),
        ("m.room.policy", None, False),
        ("m.room.policy", "x", False),
        ("m.room.member", "", False),
        ("m.room.message", None, False),
    ],
)
def test_what_is_never_asked(event_type: str, state_key: str | None, exempt: bool) -> None:
    assert is_exempt(event_type, state_key) is exempt


def _message(version: str) -> Event:
    return plain_room(version).add(("m.room.message", ALICE, None, {"body": "x", "msgtype": "m.text"}))


def _signed(event: Event, server: str = "peer", key: SigningKey = KEY) -> Event:
    return event_of(sign_event(event.pdu, event.rules, server, key), event.rules, event.event_id)


@at_once("version", ROOM_VERSIONS)
def test_the_signature_of_an_event(version: str) -> None:
    event = _message(version) if version in ("10", "11", "12") else _of_version(version)
    assert not is_signed_by(event, SERVER)
    signed = _signed(event)
    assert is_signed_by(signed, SERVER)
    # What is not covered by a redacted event is not covered by the signature either.
    assert is_signed_by(event_of({**signed.pdu, "content": {}}, event.rules, event.event_id), SERVER)
    assert not is_signed_by(event_of({**signed.pdu, "depth": 999}, event.rules, event.event_id), SERVER)


def _of_version(version: str) -> Event:
    pdu = {**_message("10").pdu, "event_id": "$chosen:test", "prev_events": [], "auth_events": []}
    if version not in ("1", "2"):
        del pdu["event_id"]
    return event_of(pdu, ROOM_VERSIONS[version], "$chosen:test")


def test_signatures_that_are_none() -> None:
    event = _message("12")
    assert not is_signed_by(_signed(event, key=SigningKey("ed25519:other", KEY.seed)), SERVER), "another key id"
    assert not is_signed_by(_signed(event, "other"), SERVER), "another server's"
    assert not is_signed_by(_signed(event, key=SigningKey(KEY_ID, b"\4" * 32)), SERVER), "another key"
    for public in ("", "abc", "not base64!", "é", "A" * 10_000):
        assert not is_signed_by(_signed(event), PolicyServer("peer", public))
    wrong: list[Any] = [None, [], {"peer": 1}, {"peer": {KEY_ID: 7}}, {"peer": {KEY_ID: "é"}}, {"peer": {KEY_ID: "AA"}}]
    for signatures in wrong:
        assert not is_signed_by(event_of({**event.pdu, "signatures": signatures}, event.rules, event.event_id), SERVER)


def test_other_signatures_stay() -> None:
    event = _signed(_message("12"), "peer", SigningKey("ed25519:own", b"\5" * 32))
    pdu = with_signature(event.pdu, "peer", "sig")
    assert pdu["signatures"]["peer"] == {**event.pdu["signatures"]["peer"], KEY_ID: "sig"}
    assert pdu["signatures"]["test"] == event.pdu["signatures"]["test"]
    assert KEY_ID not in event.pdu["signatures"]["peer"], "the one given stays as it is"

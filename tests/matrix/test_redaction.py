"""The redaction algorithm, key by key and version by version."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS, V1, V10, V11, V12, RoomRules
from tests.support.at_once import at_once

TOP_LEVEL = {
    "event_id": 1, "type": "x", "room_id": 1, "sender": 1, "state_key": 1, "hashes": 1, "signatures": 1, "depth": 1,
    "prev_events": 1, "auth_events": 1, "origin_server_ts": 1,
}  # fmt: skip
LEGACY = {"origin": 1, "membership": 1, "prev_state": 1}
DROPPED = {"unsigned": 1, "redacts": 1, "age_ts": 1, "other": 1, "prev_content": 1}


@at_once("rules", ROOM_VERSIONS.values())
def test_top_level_keys(rules: RoomRules) -> None:
    kept = TOP_LEVEL if rules in (V11, V12) else TOP_LEVEL | LEGACY
    whole = {**TOP_LEVEL, **LEGACY, **DROPPED, "content": {"body": 1}}
    assert redact(whole, rules) == {**kept, "content": {}}


VIA = "join_authorised_via_users_server"

LEVELS = "ban,events,events_default,kick,redact,state_default,users,users_default"

# event type, content keys there (joined by commas), then what is kept: from version on -> keys
CASES: list[tuple[str, str, dict[int, str]]] = [
    ("m.room.member", "membership,displayname,avatar_url,is_direct", {1: "membership"}),
    ("m.room.member", VIA, {1: "", 9: VIA}),
    ("m.room.create", "creator,room_version,m.federate", {1: "creator", 11: "creator,room_version,m.federate"}),
    ("m.room.create", "predecessor,additional_creators,type", {1: "", 11: "predecessor,additional_creators,type"}),
    ("m.room.join_rules", "join_rule,allow,other", {1: "join_rule", 8: "join_rule,allow"}),
    ("m.room.power_levels", f"{LEVELS},invite,notifications", {1: LEVELS, 11: f"{LEVELS},invite"}),
    ("m.room.history_visibility", "history_visibility,other", {1: "history_visibility"}),
    ("m.room.redaction", "redacts,reason", {1: "", 11: "redacts"}),
    ("m.room.aliases", "aliases,other", {1: "aliases", 6: ""}),
    ("m.room.message", "body,membership,join_rule,redacts,creator", {1: ""}),
    ("m.room.third_party_invite", "display_name,public_key,public_keys", {1: ""}),
]


@at_once("rules", ROOM_VERSIONS.values())
@pytest.mark.parametrize(("event_type", "keys", "kept"), CASES)
def test_content_keys(event_type: str, keys: str, kept: dict[int, str], rules: RoomRules) -> None:
    pdu = {"type": event_type, "content": dict.fromkeys(keys.split(","), "value")}
    expected = kept[max(version for version in kept if version <= int(rules.version))]
    assert redact(pdu, rules)["content"] == (dict.fromkeys(expected.split(","), "value") if expected else {})


@pytest.mark.parametrize(
    ("invite", "kept"),
    [
        ({"signed": {"token": "t"}, "display_name": "A"}, {"third_party_invite": {"signed": {"token": "t"}}}),
        ({"signed": None}, {"third_party_invite": {"signed": None}}),
        ({"display_name": "A"}, {"third_party_invite": {}}),
        ({}, {"third_party_invite": {}}),
        ("signed", {}),
        (None, {}),
    ],
)
def test_third_party_invite_keeps_signed_from_11_on(invite: object, kept: dict[str, Any]) -> None:
    pdu = {"type": "m.room.member", "content": {"third_party_invite": invite}}
    assert redact(pdu, V1)["content"] == redact(pdu, V10)["content"] == {}
    assert redact(pdu, V11)["content"] == redact(pdu, V12)["content"] == kept


def test_redacting_leaves_its_input_alone_and_is_idempotent() -> None:
    pdu = {"type": "m.room.member", "content": {"membership": "join", "displayname": "A"}, "unsigned": {}}
    once = redact(pdu, V12)
    assert redact(once, V12) == once == {"type": "m.room.member", "content": {"membership": "join"}}
    assert pdu == {"type": "m.room.member", "content": {"membership": "join", "displayname": "A"}, "unsigned": {}}

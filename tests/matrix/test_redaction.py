"""The redaction algorithm, key by key and version by version."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.redaction import redact
from annals.matrix.room_versions import V10, V11, V12, RoomRules

TOP_LEVEL = {
    "event_id": 1, "type": "x", "room_id": 1, "sender": 1, "state_key": 1, "hashes": 1, "signatures": 1, "depth": 1,
    "prev_events": 1, "auth_events": 1, "origin_server_ts": 1,
}  # fmt: skip
LEGACY = {"origin": 1, "membership": 1, "prev_state": 1}
DROPPED = {"unsigned": 1, "redacts": 1, "age_ts": 1, "other": 1, "prev_content": 1}


@pytest.mark.parametrize(("rules", "kept"), [(V10, TOP_LEVEL | LEGACY), (V11, TOP_LEVEL), (V12, TOP_LEVEL)], ids=repr)
def test_top_level_keys(rules: RoomRules, kept: dict[str, Any]) -> None:
    whole = {**TOP_LEVEL, **LEGACY, **DROPPED, "content": {"body": 1}}
    assert redact(whole, rules) == {**kept, "content": {}}


VIA = "join_authorised_via_users_server"

# event type, content keys there (joined by commas), kept in 10, kept in 11 and 12
CASES = [
    ("m.room.member", "membership,displayname,avatar_url,is_direct", "membership", "membership"),
    ("m.room.member", VIA, VIA, VIA),
    ("m.room.create", "creator,room_version,m.federate", "creator", "creator,room_version,m.federate"),
    ("m.room.create", "predecessor,additional_creators,type", "", "predecessor,additional_creators,type"),
    ("m.room.join_rules", "join_rule,allow,other", "join_rule,allow", "join_rule,allow"),
    (
        "m.room.power_levels",
        "ban,events,events_default,kick,redact,state_default,users,users_default,invite,notifications",
        "ban,events,events_default,kick,redact,state_default,users,users_default",
        "ban,events,events_default,kick,redact,state_default,users,users_default,invite",
    ),
    ("m.room.history_visibility", "history_visibility,other", "history_visibility", "history_visibility"),
    ("m.room.redaction", "redacts,reason", "", "redacts"),
    ("m.room.aliases", "aliases", "", ""),
    ("m.room.message", "body,membership,join_rule,redacts,creator", "", ""),
    ("m.room.third_party_invite", "display_name,public_key,public_keys", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("event_type", "keys", "in_10", "in_11_12"), CASES)
def test_content_keys(event_type: str, keys: str, in_10: str, in_11_12: str) -> None:
    pdu = {"type": event_type, "content": dict.fromkeys(keys.split(","), "value")}
    for rules, kept in ((V10, in_10), (V11, in_11_12), (V12, in_11_12)):
        expected = dict.fromkeys(kept.split(","), "value") if kept else {}
        assert redact(pdu, rules)["content"] == expected, rules


@pytest.mark.parametrize(
    ("invite", "kept"),
    [
        ({"signed": {"token": "t"}, "display_name": "A"}, {"third_party_invite": {"signed": {"token": "t"}}}),
        ({"signed": None}, {"third_party_invite": {"signed": None}}),
        ({"display_name": "A"}, {}),
        ({}, {}),
        ("signed", {}),
        (None, {}),
    ],
)
def test_third_party_invite_keeps_signed_from_11_on(invite: object, kept: dict[str, Any]) -> None:
    pdu = {"type": "m.room.member", "content": {"third_party_invite": invite}}
    assert redact(pdu, V10)["content"] == {}
    assert redact(pdu, V11)["content"] == redact(pdu, V12)["content"] == kept


def test_redacting_leaves_its_input_alone_and_is_idempotent() -> None:
    pdu = {"type": "m.room.member", "content": {"membership": "join", "displayname": "A"}, "unsigned": {}}
    once = redact(pdu, V12)
    assert redact(once, V12) == once == {"type": "m.room.member", "content": {"membership": "join"}}
    assert pdu == {"type": "m.room.member", "content": {"membership": "join", "displayname": "A"}, "unsigned": {}}

"""Auth events selection, table by table."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.auth_events import auth_types_for
from annals.matrix.room_versions import V10, V12

A, B, C = "@a:a", "@b:b", "@c:c"
SIGNED = {"third_party_invite": {"signed": {"token": "t"}}}
ALWAYS = {("m.room.power_levels", ""), ("m.room.member", A)}
JOIN_RULES = ("m.room.join_rules", "")
MEMBER_B, MEMBER_C = ("m.room.member", B), ("m.room.member", C)
TOKEN = ("m.room.third_party_invite", "t")


@pytest.mark.parametrize(
    ("event_type", "state_key", "content", "more"),
    [
        ("m.room.message", None, {}, set()),
        ("m.room.message", None, {"membership": "join"}, set()),
        ("m.room.topic", "", {"membership": "invite"} | SIGNED, set()),
        ("m.room.member", None, {"membership": "join"}, set()),
        ("m.room.member", A, {"membership": "join"}, {JOIN_RULES}),
        ("m.room.member", A, {"membership": "leave"}, set()),
        ("m.room.member", B, {"membership": "ban"}, {MEMBER_B}),
        ("m.room.member", B, {}, {MEMBER_B}),
        ("m.room.member", B, {"membership": 1}, {MEMBER_B}),
        ("m.room.member", A, {"membership": "knock"}, {JOIN_RULES}),
        ("m.room.member", B, {"membership": "invite"}, {MEMBER_B, JOIN_RULES}),
        ("m.room.member", B, {"membership": "invite"} | SIGNED, {MEMBER_B, JOIN_RULES, TOKEN}),
        ("m.room.member", B, {"membership": "invite", "third_party_invite": {"signed": 1}}, {MEMBER_B, JOIN_RULES}),
        ("m.room.member", B, {"membership": "invite", "third_party_invite": None}, {MEMBER_B, JOIN_RULES}),
        ("m.room.member", A, {"membership": "join"} | SIGNED, {JOIN_RULES}),
        ("m.room.member", A, {"membership": "join", "join_authorised_via_users_server": C}, {JOIN_RULES, MEMBER_C}),
        ("m.room.member", A, {"membership": "join", "join_authorised_via_users_server": A}, {JOIN_RULES}),
        ("m.room.member", A, {"membership": "join", "join_authorised_via_users_server": 1}, {JOIN_RULES}),
        ("m.room.member", A, {"membership": "leave", "join_authorised_via_users_server": C}, set()),
        ("m.room.member", B, {"membership": "join", "join_authorised_via_users_server": A}, {MEMBER_B, JOIN_RULES}),
    ],
)
def test_selection(event_type: str, state_key: str | None, content: dict[str, Any], more: set[tuple[str, str]]) -> None:
    keys = auth_types_for(event_type, A, state_key, content, V12)
    assert sorted(keys) == sorted(ALWAYS | more)
    # Before version 12 the create event is always cited.
    assert sorted(auth_types_for(event_type, A, state_key, content, V10)) == sorted([*keys, ("m.room.create", "")])


@pytest.mark.parametrize("rules", [V10, V12], ids=repr)
def test_a_create_cites_nothing(rules: Any) -> None:
    assert auth_types_for("m.room.create", A, "", {}, rules) == []

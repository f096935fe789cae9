"""Skeleton and body: together the exact event; the skeleton alone gives id, signatures and verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import body, merge, parse_event, skeleton
from annals.matrix.hashing import event_id, signing_bytes
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS, V10, V11, V12
from tests.support import pdu_strategies
from tests.support.at_once import at_once


@st.composite
def rules_and_pdu(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    rules = draw(pdu_strategies.rules)
    return rules, draw(pdu_strategies.pdus(rules))


def member(**content: Any) -> dict[str, Any]:
    return {"type": "m.room.member", "state_key": "@a:a", "content": {"membership": "invite", **content}}


@given(rules_and_pdu())
@example((V11, member(third_party_invite={})))
@example((V11, member(third_party_invite={"signed": {}, "display_name": "A"})))
@example((V10, member(third_party_invite={"display_name": "A"})))
@example((V10, member(third_party_invite=None)))
def test_the_parts_give_back_the_exact_event(case: tuple[Any, dict[str, Any]]) -> None:
    rules, pdu = case
    before = canonical_bytes(pdu)
    parts = skeleton(pdu, rules), body(pdu, rules)
    assert canonical_bytes(merge(*parts)) == before
    assert canonical_bytes(pdu) == before


@given(rules_and_pdu())
def test_the_skeleton_has_id_and_signatures_of_the_event(case: tuple[Any, dict[str, Any]]) -> None:
    rules, pdu = case
    assert redact(skeleton(pdu, rules), rules) == redact(pdu, rules)
    assert signing_bytes(skeleton(pdu, rules), rules) == signing_bytes(pdu, rules)
    assert event_id(skeleton(pdu, rules), rules) == event_id(pdu, rules) == event_id(redact(pdu, rules), rules)
    assert parse_event(skeleton(pdu, rules), rules).key if "state_key" in pdu else True


@given(rules_and_pdu())
def test_a_skeleton_is_its_own_skeleton(case: tuple[Any, dict[str, Any]]) -> None:
    rules, pdu = case
    assert skeleton(skeleton(pdu, rules), rules) == skeleton(pdu, rules)
    assert body(skeleton(pdu, rules), rules) == {}


EVERYTHING: dict[str, dict[str, Any]] = {
    "m.room.create": {
        "creator": "@a:a",
        "room_version": "12",
        "m.federate": False,
        "additional_creators": ["@b:b"],
    },
    "m.room.power_levels": {
        **{key: {"x": 50} for key in ("users", "events", "notifications")},
        **dict.fromkeys(["users_default", "events_default", "state_default", "ban", "kick", "redact", "invite"], 50),
    },
    "m.room.join_rules": {"join_rule": "restricted"},
    "m.room.third_party_invite": {"public_key": "k", "public_keys": [{"public_key": "k"}]},
    "m.room.member": {
        "membership": "invite",
        "join_authorised_via_users_server": "@a:a",
        "third_party_invite": {"signed": {"mxid": "@a:a", "token": "t", "signatures": {}}},
    },
    "m.room.policy": {"via": "p", "public_keys": {"ed25519": "k"}},
}


@at_once("rules", ROOM_VERSIONS.values())
@pytest.mark.parametrize("event_type", EVERYTHING)
def test_everything_that_decisions_read_is_in_the_skeleton(event_type: str, rules: Any) -> None:
    content = EVERYTHING[event_type]
    pdu = {"type": event_type, "state_key": "", "content": {**content, "personal": "secret"}}
    kept = skeleton(pdu, rules)["content"]
    whole_create = rules.redaction.whole_create and event_type == "m.room.create"
    assert kept == (pdu["content"] if whole_create else content)


@pytest.mark.parametrize("rules", [V10, V12], ids=repr)
def test_that_a_third_party_invite_is_there_shows_in_the_skeleton_but_not_whose(rules: Any) -> None:
    # Without `signed` the event is rejected; as an ordinary invite it might not be.
    for invite, kept in (({"display_name": "A"}, {}), (None, None), ("x", "x"), ({"signed": 1, "n": 2}, {"signed": 1})):
        pdu = member(third_party_invite=invite, displayname="Alice", reason="secret")
        assert skeleton(pdu, rules)["content"] == {"membership": "invite", "third_party_invite": kept}


def test_what_people_wrote_is_in_the_body() -> None:
    pdu = {"type": "m.room.message", "content": {"body": "hello"}, "depth": 1, "unsigned": {"age": 5}}
    assert skeleton(pdu, V12) == {"type": "m.room.message", "content": {}, "depth": 1}
    assert body(pdu, V12) == {"content": {"body": "hello"}, "unsigned": {"age": 5}}

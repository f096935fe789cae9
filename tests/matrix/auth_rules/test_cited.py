"""Rule 2 (version 12: 3), and the signatures that rule 4.2 asks for."""

from __future__ import annotations

from typing import Any

import pytest

from annals.matrix.auth_rules import Rejection, check_auth_events, check_signers
from annals.matrix.events import Event, event_of
from tests.matrix.auth_rules.cast import room_with
from tests.matrix.auth_rules.tables import rule_of
from tests.support.room_events import RoomEvents, State, user

VERSIONS = ("10", "11", "12")


def room_and_citation(version: str) -> tuple[RoomEvents, State, list[tuple[Event, bool]]]:
    """A room, its state, and what a message of bob rightly cites."""
    room, state = room_with(version, {"rule": "public"})
    return room, state, [(event, False) for event in room.cite(state, "m.room.message", "bob", None, {})]


def judge(room: RoomEvents, cited: list[tuple[Event, bool]], **fields: Any) -> str:
    event = room.event("$E", "m.room.message", "bob", None, {}, auth=[event for event, _ in cited], **fields)
    return rule_of(check_auth_events(event, cited))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_honest_server_cites_is_allowed(version: str) -> None:
    room, _, cited = room_and_citation(version)
    assert len(cited) == (2 if version == "12" else 3)
    assert judge(room, cited) == "ok"


@pytest.mark.parametrize(("version", "rule"), list(zip(VERSIONS, ("2.1", "2.1", "3.1"), strict=True)))
def test_two_of_a_key(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    other = room.member("bob", "join")
    assert judge(room, [*cited, (other, False)]) == rule
    assert judge(room, [*cited, cited[-1]]) == rule


@pytest.mark.parametrize(("version", "rule"), list(zip(VERSIONS, ("2.2", "2.2", "3.2"), strict=True)))
def test_an_event_that_is_not_needed(version: str, rule: str) -> None:
    room, state, cited = room_and_citation(version)
    assert judge(room, [*cited, (state["m.room.join_rules", ""], False)]) == rule
    assert judge(room, [*cited, (state["m.room.member", user("mod")], False)]) == rule
    message = room.event("$M", "m.room.message", "bob", None, {})
    assert judge(room, [*cited, (message, False)]) == rule


@pytest.mark.parametrize(("version", "rule"), list(zip(VERSIONS, ("2.3", "2.3", "3.3"), strict=True)))
def test_a_rejected_event(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    assert judge(room, [*cited[:-1], (cited[-1][0], True)]) == rule


@pytest.mark.parametrize(("version", "rule"), list(zip(VERSIONS, ("2.4", "2.4", "ok"), strict=True)))
def test_no_create_event(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    assert judge(room, [(event, no) for event, no in cited if event.type != "m.room.create"]) == rule


def test_version_12_does_not_cite_the_create_event() -> None:
    room, _, cited = room_and_citation("12")
    assert judge(room, [(room.create, False), *cited]) == "3.2"


@pytest.mark.parametrize(("version", "rule"), list(zip(VERSIONS, ("2.5", "2.5", "3.4"), strict=True)))
def test_an_event_of_another_room(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    other = room.event("$O", "m.room.member", "bob", user("bob"), {"membership": "join"}, room_id="!OTHER:a")
    assert judge(room, [*cited[:-1], (other, False)]) == rule


def signed(event: Event, *servers: str) -> Rejection | None:
    pdu = event.pdu | {"signatures": {server: {"ed25519:1": ""} for server in servers}}
    return check_signers(event_of(pdu, event.rules, event.event_id))


@pytest.mark.parametrize(("version", "rule"), list(zip(VERSIONS, ("4.2.1", "4.2.1", "5.2.1"), strict=True)))
def test_who_must_have_signed(version: str, rule: str) -> None:
    room, _ = room_with(version, {})
    join = {"membership": "join", "join_authorised_via_users_server": "@bob:b"}
    by_carol = room.event("$1", "m.room.member", "carol", user("carol"), join)
    assert rule_of(signed(by_carol, "c", "b")) == "ok"
    assert rule_of(signed(by_carol, "c")) == rule
    assert rule_of(signed(by_carol, "b")) == "0"
    message = room.event("$2", "m.room.message", "carol", None, {})
    assert rule_of(signed(message, "c")) == "ok"
    assert rule_of(signed(message, "b")) == "0"
    # "unless the invite was created as a result of a third-party invite"
    invite = room.event("$3", "m.room.member", "carol", user("bob"), {"membership": "invite", "third_party_invite": {}})
    assert rule_of(signed(invite, "b")) == "ok"

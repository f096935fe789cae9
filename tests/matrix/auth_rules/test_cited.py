"""Rule 2 (version 12: 3), and the signatures that rule 4.2 asks for."""

from __future__ import annotations

from typing import Any

from annals.matrix.auth_rules import Rejection, check_auth_events, check_signers
from annals.matrix.events import Event, event_of
from tests.matrix.auth_rules.cast import room_with
from tests.matrix.auth_rules.tables import by_version, in_every_version, rule_of
from tests.support.room_events import RoomEvents, State, user


def room_and_citation(version: str) -> tuple[RoomEvents, State, list[tuple[Event, bool]]]:
    """A room, its state, and what a message of bob rightly cites."""
    room, state = room_with(version, {"rule": "public"})
    return room, state, [(event, False) for event in room.cite(state, "m.room.message", "bob", None, {})]


def judge(room: RoomEvents, cited: list[tuple[Event, bool]], **fields: Any) -> str:
    event = room.event("$E", "m.room.message", "bob", None, {}, auth=[event for event, _ in cited], **fields)
    return rule_of(check_auth_events(event, cited))


@in_every_version
def test_what_an_honest_server_cites_is_allowed(version: str) -> None:
    room, _, cited = room_and_citation(version)
    assert len(cited) == (2 if version == "12" else 3)
    assert judge(room, cited) == "ok"


@by_version("2.1", "3.1")
def test_two_of_a_key(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    other = room.member("bob", "join")
    assert judge(room, [*cited, (other, False)]) == rule
    assert judge(room, [*cited, cited[-1]]) == rule


@by_version("2.2", "3.2")
def test_an_event_that_is_not_needed(version: str, rule: str) -> None:
    room, state, cited = room_and_citation(version)
    assert judge(room, [*cited, (state["m.room.join_rules", ""], False)]) == rule
    assert judge(room, [*cited, (state["m.room.member", user("mod")], False)]) == rule
    message = room.event("$M", "m.room.message", "bob", None, {})
    assert judge(room, [*cited, (message, False)]) == rule


@by_version("2.3", "3.3")
def test_a_rejected_event(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    assert judge(room, [*cited[:-1], (cited[-1][0], True)]) == rule


@by_version("2.4", "ok")
def test_no_create_event(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    assert judge(room, [(event, no) for event, no in cited if event.type != "m.room.create"]) == rule


def test_version_12_does_not_cite_the_create_event() -> None:
    room, _, cited = room_and_citation("12")
    assert judge(room, [(room.create, False), *cited]) == "3.2"


@by_version("2.5", "3.4")
def test_an_event_of_another_room(version: str, rule: str) -> None:
    room, _, cited = room_and_citation(version)
    other = room.event("$O", "m.room.member", "bob", user("bob"), {"membership": "join"}, room_id="!OTHER:a")
    assert judge(room, [*cited[:-1], (other, False)]) == rule


def signed(event: Event, *servers: str) -> Rejection | None:
    pdu = event.pdu | {"signatures": {server: {"ed25519:1": ""} for server in servers}}
    return check_signers(event_of(pdu, event.rules, event.event_id))


# Versions 1 and 2 ask for the event id's server too.
EVENT_ID_SERVERS = {"1": "0", "2": "0"}


@in_every_version
def test_who_must_have_signed(version: str) -> None:
    room, _ = room_with(version, {})
    join = {"membership": "join", "join_authorised_via_users_server": "@bob:b"}
    by_carol = room.event("$1:c", "m.room.member", "carol", user("carol"), join)
    assert rule_of(signed(by_carol, "c", "b")) == "ok"
    assert rule_of(signed(by_carol, "c")) == {"12": "5.2.1"}.get(version, "4.2.1" if int(version) >= 8 else "ok")
    assert rule_of(signed(by_carol, "b")) == "0"
    message = room.event("$2:x", "m.room.message", "carol", None, {})
    assert rule_of(signed(message, "c")) == EVENT_ID_SERVERS.get(version, "ok")
    assert rule_of(signed(message, "x")) == "0"
    assert rule_of(signed(message, "c", "x")) == "ok"
    # "unless the invite was created as a result of a third-party invite"
    content = {"membership": "invite", "third_party_invite": {}}
    invite = room.event("$3:b", "m.room.member", "carol", user("bob"), content)
    assert rule_of(signed(invite, "b")) == "ok"
    assert rule_of(signed(invite, "d")) == EVENT_ID_SERVERS.get(version, "ok")

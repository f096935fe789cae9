"""POST /createRoom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.server import LiveServer, User, quoted
from tests.support.server_fixtures import on_both_logs


def _state(user: User, room_id: str) -> dict[tuple[str, str], Any]:
    events = user.do("GET", f"/rooms/{quoted(room_id)}/state")
    return {(event["type"], event["state_key"]): event["content"] for event in events}


@pytest.mark.parametrize("version", ["10", "11", "12"])
def test_a_room_of_each_version(server: LiveServer, version: str) -> None:
    alice = server.user("alice")
    room = alice.create_room(room_version=version, name="N", topic="T")
    state = _state(alice, room)
    assert state["m.room.create", ""]["room_version"] == version
    assert state["m.room.name", ""] == {"name": "N"}
    assert state["m.room.topic", ""]["topic"] == "T"
    assert (":" in room) == (version != "12")


@pytest.mark.parametrize(
    ("fields", "join_rule", "guests"),
    [
        ({}, "invite", "can_join"),
        ({"visibility": "public"}, "public", "forbidden"),
        ({"preset": "public_chat"}, "public", "forbidden"),
        ({"preset": "trusted_private_chat", "visibility": "public"}, "invite", "can_join"),
    ],
)
def test_presets(server: LiveServer, fields: dict[str, Any], join_rule: str, guests: str) -> None:
    alice = server.user("alice")
    state = _state(alice, alice.create_room(**fields))
    assert state["m.room.join_rules", ""] == {"join_rule": join_rule}
    assert state["m.room.guest_access", ""] == {"guest_access": guests}
    assert state["m.room.history_visibility", ""] == {"history_visibility": "shared"}


def test_what_the_request_gives_wins(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(
        initial_state=[
            {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
            {"type": "org.example.x", "state_key": "k", "content": {"a": 1}},
        ],
        power_level_content_override={"events_default": 7},
        creation_content={"m.federate": False, "room_version": "1"},
        invite=[bob.id],
        is_direct=True,
    )
    state = _state(alice, room)
    assert state["m.room.join_rules", ""] == {"join_rule": "knock"}
    assert state["org.example.x", "k"] == {"a": 1}
    assert state["m.room.power_levels", ""]["events_default"] == 7
    assert (state["m.room.create", ""]["m.federate"], state["m.room.create", ""]["room_version"]) == (False, "12")
    assert state["m.room.member", bob.id] == {"membership": "invite", "is_direct": True}


@on_both_logs
def test_an_alias_is_taken_once(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room(room_alias_name="tea")
    assert alice.do("GET", f"/directory/room/{quoted('#tea:test')}")["room_id"] == room
    assert _state(alice, room)["m.room.canonical_alias", ""] == {"alias": "#tea:test"}
    status, answer = alice.call("POST", "/createRoom", {"room_alias_name": "tea"})
    assert (status, answer["errcode"]) == (400, "M_ROOM_IN_USE")
    assert alice.do("GET", "/joined_rooms") == {"joined_rooms": [room]}


@pytest.mark.parametrize(
    ("fields", "status", "errcode"),
    [
        ({"room_version": "99"}, 400, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"preset": "cosy"}, 400, "M_INVALID_PARAM"),
        ({"visibility": "hidden"}, 400, "M_INVALID_PARAM"),
        ({"invite": ["nobody"]}, 400, "M_INVALID_PARAM"),
        ({"invite": "@a:test"}, 400, "M_BAD_JSON"),
        ({"invite_3pid": [{"medium": "email"}]}, 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED"),
        ({"name": 1}, 400, "M_BAD_JSON"),
        ({"room_alias_name": "a:b"}, 400, "M_INVALID_PARAM"),
        ({"room_alias_name": ""}, 400, "M_INVALID_PARAM"),
        ({"room_alias_name": "x" * 300}, 400, "M_INVALID_PARAM"),
        ({"room_alias_name": "a\0b"}, 400, "M_INVALID_PARAM"),
        ({"creation_content": []}, 400, "M_BAD_JSON"),
        ({"creation_content": {"x": 1.5}}, 400, "M_BAD_JSON"),
        ({"creation_content": {"additional_creators": "x"}}, 400, "M_INVALID_PARAM"),
        ({"initial_state": [{"content": {}}]}, 400, "M_MISSING_PARAM"),
        ({"initial_state": [{"type": "x", "content": {"n": 2**70}}]}, 400, "M_BAD_JSON"),
        ({"initial_state": [{"type": "x", "content": {"n": "y" * 70_000}}]}, 413, "M_TOO_LARGE"),
        ({"initial_state": [{"type": "x" * 300, "content": {}}]}, 400, "M_BAD_JSON"),
        ({"power_level_content_override": {"state_default": "50"}}, 400, "M_INVALID_ROOM_STATE"),
        ({"power_level_content_override": {"events": {"m.room.name": 200}}, "room_version": "11", "name": "x"},
         400, "M_INVALID_ROOM_STATE"),
        ({"topic": "t" * 70_000}, 413, "M_TOO_LARGE"),
    ],
)  # fmt: skip
def test_what_no_room_can_be_made_of(
    alice_in_room: tuple[User, str], fields: dict[str, Any], status: int, errcode: str
) -> None:
    alice, room = alice_in_room
    answered, answer = alice.call("POST", "/createRoom", fields)
    assert (answered, answer["errcode"]) == (status, errcode), answer
    assert alice.do("GET", "/joined_rooms") == {"joined_rooms": [room]}


@on_both_logs
def test_text_that_postgres_has_no_word_for(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room(
        name="a\0b\x01", initial_state=[{"type": "t\0", "state_key": "k\0", "content": {"c": "\0"}}]
    )
    assert _state(alice, room)["m.room.name", ""] == {"name": "a\0b\x01"}
    assert alice.do("GET", f"/rooms/{quoted(room)}/state/t%00/k%00") == {"c": "\0"}

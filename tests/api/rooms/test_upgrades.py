"""POST /rooms/{roomId}/upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.server import LiveServer, User, quoted
from tests.support.server_fixtures import on_both_logs


def _state(user: User, room_id: str) -> dict[tuple[str, str], Any]:
    events = user.do("GET", f"/rooms/{quoted(room_id)}/state")
    return {(event["type"], event["state_key"]): event["content"] for event in events}


def _upgraded(user: User, room_id: str, version: str, **more: Any) -> str:
    body = {"new_version": version, **more}
    return str(user.do("POST", f"/rooms/{quoted(room_id)}/upgrade", body)["replacement_room"])


def _lively(alice: User, bob: User, mallory: User, version: str) -> tuple[str, str]:
    """A published room in which bob has some power and mallory is banned; the room, its alias."""
    name = f"lively{alice.id[1:].partition(':')[0]}"
    room = alice.create_room(
        room_version=version,
        preset="public_chat",
        visibility="public",
        room_alias_name=name,
        name="Lively",
        power_level_content_override={"users": {bob.id: 50} | ({} if version == "12" else {alice.id: 100})},
        initial_state=[{"type": "m.room.server_acl", "content": {"allow": ["*"]}}],
        creation_content={"type": "org.test.type"},
    )
    bob.join(room)
    topic = alice.set_state(room, "m.room.topic", {"topic": "taken back"})
    alice.do("PUT", f"/rooms/{quoted(room)}/redact/{quoted(topic)}/{name}", {})
    alice.do("POST", f"/rooms/{quoted(room)}/ban", {"user_id": mallory.id})
    return room, f"#{name}:test"


@pytest.mark.parametrize(("old_version", "version"), [("9", "11"), ("11", "12"), ("12", "12"), ("12", "10")])
def test_a_room_is_replaced(server: LiveServer, old_version: str, version: str) -> None:
    alice, bob, carol, mallory = (server.user(name) for name in ("alice", "bob", "carol", "mallory"))
    old, alias = _lively(alice, bob, mallory, old_version)
    carol.join(old)
    new = _upgraded(alice, old, version)
    state = _state(alice, new)
    create = state["m.room.create", ""]
    assert (create["room_version"], create["type"], create["predecessor"]["room_id"]) == (version, "org.test.type", old)
    assert create["predecessor"]["event_id"].startswith("$")
    assert state["m.room.name", ""] == {"name": "Lively"}
    assert state["m.room.topic", ""] == {}
    assert state["m.room.join_rules", ""] == {"join_rule": "public"}
    assert state["m.room.server_acl", ""] == {"allow": ["*"]}
    users = state["m.room.power_levels", ""]["users"]
    assert users == {bob.id: 50} | ({} if version == "12" else {alice.id: 100})
    assert state["m.room.canonical_alias", ""] == {"alias": alias}
    assert {key for kind, key in state if kind == "m.room.member"} == {alice.id, mallory.id}
    assert carol.do("GET", f"/directory/room/{quoted(alias)}")["room_id"] == new
    assert _listed(carol, new) == "public"
    assert _listed(carol, old) == "private"
    bob.join(new)
    _is_closed(_state(alice, old), new)
    status, answer = carol.call("PUT", f"/rooms/{quoted(old)}/send/m.room.message/x", {"body": "x"})
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")


def _listed(user: User, room_id: str) -> str:
    return str(user.do("GET", f"/directory/list/room/{quoted(room_id)}")["visibility"])


def _is_closed(state: Mapping[tuple[str, str], Any], new: str) -> None:
    assert state["m.room.tombstone", ""]["replacement_room"] == new
    levels = state["m.room.power_levels", ""]
    assert (levels["events_default"], levels["invite"]) == (50, 50)


def test_what_a_user_had_set_is_set_in_the_new_room(server: LiveServer) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    old = alice.create_room(preset="public_chat")
    tags = {"tags": {"m.favourite": {"order": 0.5}}}

    def tag(user: User, room_id: str, content: Any) -> None:
        user.do("PUT", f"/user/{quoted(user.id)}/rooms/{quoted(room_id)}/account_data/m.tag", content)

    def tags_of(user: User, room_id: str) -> Any:
        return user.call("GET", f"/user/{quoted(user.id)}/rooms/{quoted(room_id)}/account_data/m.tag")

    for user in (alice, bob, carol):
        tag(user, old, tags)
    bob.join(old)
    direct = f"/user/{quoted(bob.id)}/account_data/m.direct"
    bob.do("PUT", direct, {alice.id: [old], carol.id: ["!other:test"]})
    new = _upgraded(alice, old, "12")
    assert tags_of(alice, new) == (200, tags)
    tag(carol, new, {"tags": {}})
    for user in (bob, carol):
        user.join(new)
    assert tags_of(bob, new) == (200, tags)
    assert bob.do("GET", direct) == {alice.id: [old, new], carol.id: ["!other:test"]}
    assert tags_of(carol, new) == (200, {"tags": {}})


def test_who_may_not(server: LiveServer) -> None:
    alice, bob, stranger = server.user("alice"), server.user("bob"), server.user("stranger")
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    for user in (bob, stranger):
        status, answer = user.call("POST", f"/rooms/{quoted(room)}/upgrade", {"new_version": "11"})
        assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
    assert ("m.room.tombstone", "") not in _state(alice, room)


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        ({"new_version": "nine"}, 400, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"new_version": "12", "additional_creators": ["bob"]}, 400, "M_INVALID_PARAM"),
        ({"new_version": 12}, 400, "M_BAD_JSON"),
        ({}, 400, "M_MISSING_PARAM"),
    ],
)
def test_what_is_refused(alice_in_room: tuple[User, str], body: dict[str, Any], status: int, errcode: str) -> None:
    alice, room = alice_in_room
    answer = alice.call("POST", f"/rooms/{quoted(room)}/upgrade", body)
    assert (answer[0], answer[1]["errcode"]) == (status, errcode)
    unknown = alice.call("POST", "/rooms/!unknown:test/upgrade", {"new_version": "11"})
    assert (unknown[0], unknown[1]["errcode"]) == (404, "M_NOT_FOUND")


def test_creators_besides(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    old = alice.create_room(room_version="11", power_level_content_override={"users": {alice.id: 100, bob.id: 100}})
    state = _state(alice, _upgraded(alice, old, "12", additional_creators=[bob.id, alice.id]))
    assert state["m.room.create", ""]["additional_creators"] == [bob.id]
    assert state["m.room.power_levels", ""]["users"] == {}
    # Below version 12 there are none.
    state = _state(alice, _upgraded(alice, old, "11", additional_creators=[bob.id]))
    assert "additional_creators" not in state["m.room.create", ""]


def test_somebody_with_less_power_may_where_the_room_says_so(server: LiveServer) -> None:
    alice, bob, mallory = server.user("alice"), server.user("bob"), server.user("mallory")
    old, _ = _lively(alice, bob, mallory, "11")
    levels = _state(alice, old)["m.room.power_levels", ""]
    alice.set_state(old, "m.room.power_levels", {**levels, "events": {**levels["events"], "m.room.tombstone": 50}})
    new = _upgraded(bob, old, "11")
    state = _state(bob, new)
    assert state["m.room.power_levels", ""]["users"] == {bob.id: 50, alice.id: 100}
    assert ("m.room.server_acl", "") in state
    # He cannot change levels, so the old room stays open.
    assert _state(bob, old)["m.room.power_levels", ""]["events_default"] == 0
    assert _state(bob, old)["m.room.tombstone", ""]["replacement_room"] == new


@on_both_logs
def test_a_command_that_is_taken_up_again_does_nothing_twice(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, mallory = server.user("alice"), server.user("bob"), server.user("mallory")
    old, alias = _lively(alice, bob, mallory, "11")

    async def run(user_id: str, kind: str, plan: Any, cause: str, carry_out: Any) -> None:
        for _ in range(2):
            await carry_out(user_id, "taken-up-again", plan)

    monkeypatch.setattr(server.house.creation, "run", run)
    new = _upgraded(alice, old, "12")
    for room, kinds in ((old, ["m.room.tombstone", "m.room.power_levels"]), (new, ["m.room.name", "m.room.member"])):
        events = alice.messages(room)["chunk"]
        for kind in kinds:
            expected = 1 + (kind in ("m.room.power_levels", "m.room.member"))
            assert sum(event["type"] == kind for event in events) == expected
    assert bob.do("GET", f"/directory/room/{quoted(alias)}")["room_id"] == new

"""Coming and going."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.server import LiveServer, User, quoted
from tests.support.server_fixtures import on_both_logs


def _membership(user: User, room_id: str, of: str) -> Any:
    return user.do("GET", f"/rooms/{quoted(room_id)}/state/m.room.member/{quoted(of)}")["membership"]


def _post(user: User, room_id: str, what: str, body: Any = None) -> tuple[int, str | None]:
    status, answer = user.call("POST", f"/rooms/{quoted(room_id)}/{what}", {} if body is None else body)
    return status, answer.get("errcode")


def test_join_by_id_and_alias(server: LiveServer) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room = alice.create_room(preset="public_chat", room_alias_name=f"hall-{alice.device_id}")
    alias = f"#hall-{alice.device_id}:test"
    assert bob.do("POST", f"/join/{quoted(alias)}", {"reason": "curious"}) == {"room_id": room}
    # Without any body, as some clients do.
    assert server.request("POST", f"/_matrix/client/v3/join/{quoted(room)}", token=carol.token).status_code == 200
    member = alice.do("GET", f"/rooms/{quoted(room)}/state/m.room.member/{quoted(bob.id)}")
    assert (member["membership"], member["reason"]) == ("join", "curious")
    # Again: nothing to do.
    before = alice.messages(room)["chunk"][0]["event_id"]
    bob.join(room)
    assert alice.messages(room)["chunk"][0]["event_id"] == before


@pytest.mark.parametrize(
    ("name", "status", "errcode"),
    [
        ("#nowhere:test", 404, "M_NOT_FOUND"),
        ("#elsewhere:nobody.invalid", 502, "M_UNKNOWN"),
        ("!unknown:test", 404, "M_NOT_FOUND"),
        ("tea", 400, "M_INVALID_PARAM"),
        ("!a\0b:test", 400, "M_INVALID_PARAM"),
    ],
)
def test_rooms_that_are_not_there(alice_in_room: tuple[User, str], name: str, status: int, errcode: str) -> None:
    alice, _ = alice_in_room
    for what in ("join", "knock"):
        answered, answer = alice.call("POST", f"/{what}/{quoted(name)}", {})
        assert (answered, answer["errcode"]) == (status, errcode), what


@on_both_logs
def test_invite_join_leave_forget(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room()
    assert _post(bob, room, "join") == (403, "M_FORBIDDEN")
    assert _post(alice, room, "invite", {"user_id": bob.id, "reason": "do come"}) == (200, None)
    assert _membership(alice, room, bob.id) == "invite"
    bob.join(room)
    assert _post(alice, room, "invite", {"user_id": bob.id}) == (403, "M_FORBIDDEN")
    assert _post(bob, room, "forget") == (400, "M_UNKNOWN")
    bob.leave(room)
    bob.leave(room)
    assert _post(bob, room, "forget") == (200, None)
    assert _post(bob, room, "forget") == (200, None)
    assert bob.call("GET", f"/rooms/{quoted(room)}/messages", params={"dir": "b"})[0] == 403
    assert _post(bob, room, "join") == (403, "M_FORBIDDEN")


def test_reject_an_invite(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(invite=[bob.id])
    bob.leave(room)
    assert _membership(alice, room, bob.id) == "leave"
    assert bob.call("GET", f"/rooms/{quoted(room)}/state")[0] == 403


@on_both_logs
def test_kick_ban_unban(server: LiveServer) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    carol.join(room)
    target = {"user_id": carol.id, "reason": "noise"}
    for what in ("kick", "ban"):
        assert _post(bob, room, what, target) == (403, "M_FORBIDDEN")
    assert _post(alice, room, "kick", target) == (200, None)
    assert _post(alice, room, "kick", target) == (403, "M_FORBIDDEN")
    carol.join(room)
    assert _post(alice, room, "unban", target) == (403, "M_BAD_STATE")
    assert _post(alice, room, "ban", target) == (200, None)
    assert _post(carol, room, "join") == (403, "M_FORBIDDEN")
    assert _post(bob, room, "unban", target) == (403, "M_FORBIDDEN")
    assert _post(alice, room, "unban", target) == (200, None)
    carol.join(room)


def test_knock(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room = alice.create_room(initial_state=rules)
    assert bob.do("POST", f"/knock/{quoted(room)}", {"reason": "please"}) == {"room_id": room}
    assert _membership(alice, room, bob.id) == "knock"
    assert _post(alice, room, "invite", {"user_id": bob.id}) == (200, None)
    bob.join(room)
    closed = alice.create_room()
    assert bob.call("POST", f"/knock/{quoted(closed)}", {})[0] == 403


def test_a_restricted_room_asks_for_another(server: LiveServer) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    club = alice.create_room(preset="public_chat")
    bob.join(club)
    allow = [{"type": "m.room_membership", "room_id": club}]
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}]
    for version in ("10", "12"):
        room = alice.create_room(initial_state=rules, room_version=version)
        bob.join(room)
        assert _post(carol, room, "join") == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("what", ["invite", "kick", "ban", "unban"])
@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        ({}, 400, "M_MISSING_PARAM"),
        ({"user_id": 1}, 400, "M_BAD_JSON"),
        ({"user_id": "bob"}, 400, "M_INVALID_PARAM"),
        ({"user_id": "@a\0b:test"}, 400, "M_INVALID_PARAM"),
        ({"user_id": "@bob:test", "reason": {}}, 400, "M_BAD_JSON"),
    ],
)
def test_bad_targets(alice_in_room: tuple[User, str], what: str, body: Any, status: int, errcode: str) -> None:
    alice, room = alice_in_room
    assert _post(alice, room, what, body) == (status, errcode)


@pytest.mark.parametrize("what", ["invite", "kick", "ban", "unban"])
def test_strangers_hear_the_same_of_every_room(server: LiveServer, alice_in_room: tuple[User, str], what: str) -> None:
    (alice, room), bob = alice_in_room, server.user("bob")
    body = {"user_id": alice.id}
    there = _post(bob, room, what, body)
    nowhere = _post(bob, "!unknown:test", what, body)
    assert nowhere == (403, "M_FORBIDDEN")
    assert there[0] == 403


def test_no_third_party_invites(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    body = {"medium": "email", "address": "bob@example.com", "id_server": "x", "id_access_token": "y"}
    assert _post(alice, room, "invite", body) == (400, "M_THREEPID_MEDIUM_NOT_SUPPORTED")

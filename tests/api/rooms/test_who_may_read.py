"""Who may read what of a room: members, those who left, guests of a readable room, strangers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.server import LiveServer, User, bodies, quoted

READS = ("state", "members", "messages?dir=b", "state/m.room.create", "joined_members")


def _statuses(user: User, room_id: str) -> dict[str, int]:
    return {read: user.call("GET", f"/rooms/{quoted(room_id)}/{read}")[0] for read in READS}


def _members(user: User, room_id: str, **params: Any) -> dict[str, str]:
    chunk = user.do("GET", f"/rooms/{quoted(room_id)}/members", params=params)["chunk"]
    return {event["state_key"]: event["content"]["membership"] for event in chunk}


def test_strangers_read_nothing(server: LiveServer) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room = alice.create_room(preset="public_chat", invite=[carol.id])
    for user in (bob, carol):
        assert set(_statuses(user, room).values()) == {403}
    assert set(_statuses(bob, "!none:test").values()) == {403}
    assert bob.call("GET", f"/rooms/{quoted(room)}/state")[1]["errcode"] == "M_FORBIDDEN"


def test_anybody_reads_a_world_readable_room(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    room = alice.create_room(initial_state=[visibility])
    event_id = alice.say(room, "for all")
    assert _statuses(bob, room) == {**dict.fromkeys(READS, 200), "joined_members": 403}
    assert bodies(bob.messages(room)["chunk"]) == ["for all"]
    assert bob.call("GET", f"/rooms/{quoted(room)}/event/{quoted(event_id)}")[0] == 200


@pytest.mark.parametrize("how", ["leave", "kick", "ban"])
def test_who_left_reads_the_room_as_it_was(server: LiveServer, how: str) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room = alice.create_room(preset="public_chat", name="old")
    bob.join(room)
    alice.say(room, "for bob")
    if how == "leave":
        bob.leave(room)
    else:
        alice.do("POST", f"/rooms/{quoted(room)}/{how}", {"user_id": bob.id})
    secret = alice.say(room, "behind his back")
    alice.set_state(room, "m.room.name", {"name": "new"})
    alice.set_state(room, "m.room.topic", {"topic": "him"})
    carol.join(room)
    base = f"/rooms/{quoted(room)}"
    assert bob.do("GET", f"{base}/state/m.room.name") == {"name": "old"}
    assert bob.call("GET", f"{base}/state/m.room.topic")[0] == 404
    state = {(e["type"], e["state_key"]): e["content"] for e in bob.do("GET", f"{base}/state")}
    assert state["m.room.name", ""] == {"name": "old"}
    assert ("m.room.topic", "") not in state
    assert ("m.room.member", carol.id) not in state
    assert state["m.room.member", bob.id]["membership"] == ("ban" if how == "ban" else "leave")
    assert carol.id not in _members(bob, room)
    assert bob.call("GET", f"{base}/joined_members")[0] == 403
    for direction in ("b", "f"):
        assert bodies(bob.messages(room, dir=direction)["chunk"]) == ["for bob"]
    for what in ("event", "context"):
        assert bob.call("GET", f"{base}/{what}/{quoted(secret)}")[0] == 404
    # The name as of now is what members read.
    assert alice.do("GET", f"{base}/state/m.room.name") == {"name": "new"}


def test_a_ban_after_leaving_opens_nothing(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat", name="old")
    bob.join(room)
    token = bob.sync()["next_batch"]
    bob.leave(room)
    alice.say(room, "in between")
    alice.set_state(room, "m.room.name", {"name": "new"})
    alice.do("POST", f"/rooms/{quoted(room)}/ban", {"user_id": bob.id})
    assert bob.do("GET", f"/rooms/{quoted(room)}/state/m.room.name") == {"name": "old"}
    assert bodies(bob.messages(room)["chunk"]) == []
    left = bob.sync(token)["rooms"]["leave"][room]
    assert bodies(left["timeline"]["events"]) == []
    assert "new" not in str(left)


def test_shared_history_is_for_who_joins_later(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    for setting, expected in (("shared", ["early", "late"]), ("joined", ["late"]), ("invited", ["late"])):
        visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": setting}}
        room = alice.create_room(preset="public_chat", initial_state=[visibility])
        early = alice.say(room, "early")
        bob.join(room)
        alice.say(room, "late")
        assert bodies(bob.messages(room, dir="f")["chunk"]) == expected, setting
        seen = bob.call("GET", f"/rooms/{quoted(room)}/event/{quoted(early)}")[0]
        assert seen == (200 if setting == "shared" else 404)


def test_members_by_membership_and_time(server: LiveServer) -> None:
    alice, bob, carol, dave = (server.user(name) for name in ("alice", "bob", "carol", "dave"))
    room = alice.create_room(preset="public_chat", invite=[carol.id])
    bob.join(room)
    then = alice.sync()["next_batch"]
    bob.leave(room)
    dave.join(room)
    everybody = {alice.id: "join", bob.id: "leave", carol.id: "invite", dave.id: "join"}
    assert _members(alice, room) == everybody
    assert _members(alice, room, membership="join") == {alice.id: "join", dave.id: "join"}
    assert _members(alice, room, not_membership="leave") == {k: v for k, v in everybody.items() if v != "leave"}
    # "the two parameters create an 'or' condition"
    assert _members(alice, room, membership="leave", not_membership="join") == {bob.id: "leave", carol.id: "invite"}
    assert _members(alice, room, at=then) == {alice.id: "join", bob.id: "join", carol.id: "invite"}
    assert alice.call("GET", f"/rooms/{quoted(room)}/members", params={"membership": "x"})[0] == 400
    assert alice.call("GET", f"/rooms/{quoted(room)}/members", params={"at": "x"})[0] == 400


def test_joined_members(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    alice.do("PUT", f"/profile/{quoted(alice.id)}/displayname", {"displayname": "Alice"})
    room = alice.create_room(invite=[bob.id])
    joined = alice.do("GET", f"/rooms/{quoted(room)}/joined_members")["joined"]
    assert joined == {alice.id: {"display_name": "Alice"}}
    assert bob.call("GET", f"/rooms/{quoted(room)}/joined_members")[0] == 403

"""What a sync says to users whose own membership a switch of generations made another one, or none.

The fact of a switch is logged as `annals.audit.switched` does. What the tables hold of the user stands for what the
generation believes that serves now: nothing, a membership that was forgotten, a room whose state we do not have.
"""

from __future__ import annotations

from typing import Any

from annals.schemas.facts.rooms import RoomRebuilt
from tests.support.patience import PATIENCE_S
from tests.support.remote_server import RemoteServer
from tests.support.room_elsewhere import RoomElsewhere
from tests.support.server import LiveServer, User
from tests.support.server_fixtures import log_backend, on_both_logs, server
from tests.support.waiting_sync import woken

__all__ = ["log_backend", "server"]


async def rebuilt(server: LiveServer, room_id: str, *users: User) -> None:
    """Log that a switch changed the room, and these users' memberships."""
    fact = RoomRebuilt(server.house.appender.envelope(), room_id, "a switch", tuple(user.id for user in users))
    await server.house.appender.submit_and_settle([fact], PATIENCE_S)


def told_once(user: User, since: str) -> dict[str, Any]:
    """The rooms of the next answer; the one after it has none."""
    answer = user.sync(since, timeout=0)
    assert "rooms" not in user.sync(answer["next_batch"], timeout=0)
    rooms: dict[str, Any] = answer.get("rooms", {})
    return rooms


def test_who_never_was_in_the_room_is_told_that_they_are_out(server: LiveServer) -> None:
    ann, bob, cat = server.user("ann"), server.user("bob"), server.user("cat")
    room_id = ann.create_room()
    ann.say(room_id, "a secret")
    tokens = {user.id: user.sync()["next_batch"] for user in (ann, bob, cat)}
    server.on_loop(rebuilt(server, room_id, bob))
    told = told_once(bob, tokens[bob.id])
    assert told.keys() == {"leave"}
    assert told["leave"][room_id]["timeline"]["events"] == []
    assert told["leave"][room_id]["state"]["events"] == []
    assert told_once(ann, tokens[ann.id]).keys() == {"join"}
    assert told_once(cat, tokens[cat.id]) == {}
    assert "rooms" not in bob.sync()
    for more in ({"full_state": "true"}, {"use_state_after": "true"}):
        again = bob.sync(tokens[bob.id], timeout=0, **more)["rooms"]
        assert again.keys() == {"leave"}
        assert not any(section.get("events") for section in again["leave"][room_id].values())


def test_of_a_room_that_there_is_no_more(server: LiveServer) -> None:
    bob = server.user("bob")
    since = bob.sync()["next_batch"]
    room_id = f"!gone-{bob.id[1:]}"
    server.on_loop(rebuilt(server, room_id, bob))
    told = told_once(bob, since)
    assert told.keys() == {"leave"}
    assert told["leave"][room_id]["timeline"]["events"] == []


@on_both_logs
def test_who_waits_hears_it_at_once(server: LiveServer) -> None:
    ann, bob = server.user("ann"), server.user("bob")
    room_id = ann.create_room()
    since = bob.sync()["next_batch"]
    answer = woken(bob, since, lambda: server.on_loop(rebuilt(server, room_id, bob)))
    assert list(answer["rooms"]["leave"]) == [room_id]


def test_who_is_in_the_room_is_told_so_and_what_comes_after_counts(server: LiveServer) -> None:
    ann, bob = server.user("ann"), server.user("bob")
    room_id = ann.create_room(preset="public_chat")
    since = bob.sync()["next_batch"]
    server.on_loop(rebuilt(server, room_id, bob))
    # There and back: it was told out of the room, and the other generation has it in there.
    bob.join(room_id)
    later = bob.sync()["next_batch"]
    server.on_loop(rebuilt(server, room_id, bob))
    for token in (since, later):
        told = told_once(bob, token)
        assert told.keys() == {"join"}
        assert told["join"][room_id]["timeline"]["limited"]
    bob.leave(room_id)
    assert told_once(bob, later).keys() == {"leave"}


def test_a_room_that_was_forgotten(server: LiveServer) -> None:
    ann, bob = server.user("ann"), server.user("bob")
    room_id = ann.create_room(preset="public_chat")
    bob.join(room_id)
    bob.leave(room_id)
    bob.do("POST", f"/rooms/{room_id}/forget", {})
    since = bob.sync()["next_batch"]
    server.on_loop(rebuilt(server, room_id, bob))
    assert told_once(bob, since).keys() == {"leave"}


def test_a_room_whose_state_we_do_not_have(server: LiveServer) -> None:
    bob, room = server.user("bob"), RoomElsewhere(RemoteServer(server))
    status, answer = room.hand_in(room.invitation(bob.id))
    assert status == 200, answer
    since = bob.sync()["next_batch"]
    assert "rooms" not in bob.sync(since, timeout=0)
    server.on_loop(rebuilt(server, room.room_id, bob))
    assert told_once(bob, since).keys() == {"invite"}

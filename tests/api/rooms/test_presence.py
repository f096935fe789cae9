"""Who is online: set, seen by those who share a room, shown in /sync, heard from other servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from annals.commands import presence
from annals.schemas.codec import decode
from annals.schemas.facts.ephemeral import PresenceSet
from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer, User, quoted
from tests.support.server_fixtures import on_both_logs
from tests.support.waiting import until
from tests.support.waiting_sync import woken

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(scope="module")
def patient() -> Iterator[None]:
    """However slow the machine, nobody is offline between two requests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OFFLINE_AFTER_MS", "IDLE_AFTER_MS", "ACTIVE_MS", "BELIEVED_MS"):
            patch.setattr(presence, name, 10**9)
        yield


def path(user_id: str) -> str:
    return f"/presence/{quoted(user_id)}/status"


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    """Content by user."""
    return {event["sender"]: event["content"] for event in answer.get("presence", {"events": []})["events"]}


def said_of(server: LiveServer, user: User) -> list[str]:
    """What the log was told of a user's presence."""
    records = server.house.log.read("ephemeral", 0, 0, max_records=100_000, max_bytes=1 << 30)
    facts = [decode(record.value) for record in records if record.value is not None]
    return [fact.presence for fact in facts if isinstance(fact, PresenceSet) and fact.user_id == user.id]


def two(server: LiveServer) -> tuple[User, User]:
    alice, bob = server.user("alice"), server.user("bob")
    bob.join(alice.create_room(preset="public_chat"))
    return alice, bob


def test_what_is_set_is_seen_by_those_who_share_a_room(server: LiveServer) -> None:
    alice, bob = two(server)
    assert alice.do("GET", path(bob.id)) == {"presence": "offline"}
    bob.do("PUT", path(bob.id), {"presence": "unavailable", "status_msg": "lunch"})
    for seen in (alice.do("GET", path(bob.id)), shown(alice.sync())[bob.id]):
        assert seen.pop("last_active_ago") >= 0
        assert seen == {"presence": "unavailable", "status_msg": "lunch"}
    assert bob.do("GET", path(bob.id))["presence"] == "unavailable"
    carol = server.user("carol")
    for user_id in (bob.id, "@nobody:test", "no user", "@x:elsewhere.invalid", "\0", "@a\0:test"):
        assert carol.call("GET", path(user_id))[1]["errcode"] == "M_FORBIDDEN"
    assert shown(carol.sync()) == {}
    assert server.call("GET", path(bob.id))[0] == 401


def test_bad_presence(server: LiveServer) -> None:
    alice = server.user("alice")
    bodies: list[Any] = [{}, {"presence": "busy"}, {"presence": 1}, {"presence": "online", "status_msg": 1}, []]
    for body in bodies:
        assert alice.call("PUT", path(alice.id), body)[0] == 400, body
    assert alice.call("PUT", path("@other:test"), {"presence": "online"})[1]["errcode"] == "M_FORBIDDEN"


@on_both_logs
def test_a_change_wakes_who_waits_and_a_sync_that_changes_nothing_is_no_record(server: LiveServer) -> None:
    alice, bob = two(server)
    token = alice.sync()["next_batch"]
    answer = woken(alice, token, lambda: bob.sync(set_presence="online"))
    content = shown(answer)[bob.id]
    assert (content["presence"], content["currently_active"]) == ("online", True)
    for _ in range(5):
        bob.sync(set_presence="online")
    # What comes after in the same partition: nothing was on its way.
    alice.do("PUT", path(alice.id), {"presence": "online"})
    assert said_of(server, bob) == ["online"]
    assert shown(alice.sync(answer["next_batch"])).keys() == {alice.id}
    bob.sync(set_presence="unavailable")
    until(lambda: alice.do("GET", path(bob.id))["presence"] == "unavailable", "bob to be unavailable")


def push(*updates: dict[str, Any]) -> dict[str, Any]:
    return {"edu_type": "m.presence", "content": {"push": list(updates)}}


@on_both_logs
def test_other_servers_tell_of_their_users_in_our_rooms(server: LiveServer) -> None:
    alice, remote = server.user("alice"), RemoteServer(server)
    room_id = alice.create_room(preset="public_chat")
    bob, stranger = remote.user("bob"), remote.user("stranger")
    remote.join(room_id, bob)
    said = {"presence": "online", "last_active_ago": 5, "status_msg": "there", "currently_active": True}
    odd: list[Any] = [{"user_id": bob}, {"user_id": 5, **said}, 7, {"user_id": bob, "presence": "x"}]
    edus = [push(*odd, {"user_id": bob, **said}, {"user_id": stranger, **said}, {"user_id": alice.id, **said})]
    contents: list[Any] = [{}, {"push": 5}, {"push": {}}]
    edus += [{"edu_type": "m.presence", "content": content} for content in contents]
    assert remote.send(edus=edus)[0] == 200
    until(lambda: alice.do("GET", path(bob))["presence"] == "online", "bob to be online")
    seen = shown(alice.sync())
    assert seen.keys() == {bob}
    assert seen[bob].pop("last_active_ago") >= 5
    assert seen[bob] | {"last_active_ago": 5} == said
    remote.send(edus=[push({"user_id": bob, "presence": "offline", "last_active_ago": 0})])
    until(lambda: alice.do("GET", path(bob))["presence"] == "offline", "bob to be offline")

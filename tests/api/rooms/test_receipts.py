"""Typing, receipts, read markers."""

from __future__ import annotations

from typing import Any

import pytest

from annals.commands.typing import TIMEOUT_MS_MAX
from tests.support.server import LiveServer, User, quoted
from tests.support.server_fixtures import on_both_logs
from tests.support.waiting_sync import woken


def _ephemeral(user: User, room_id: str, kind: str, since: str | None = None) -> Any:
    events = user.sync(since).get("rooms", {}).get("join", {}).get(room_id, {}).get("ephemeral", {"events": []})
    return [event["content"] for event in events["events"] if event["type"] == kind]


def _two(server: LiveServer) -> tuple[User, User, str]:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    return alice, bob, room


def _receipt(user: User, room_id: str, kind: str, event_id: str, body: Any = None) -> tuple[int, str | None]:
    path = f"/rooms/{quoted(room_id)}/receipt/{quoted(kind)}/{quoted(event_id)}"
    status, answer = user.call("POST", path, {} if body is None else body)
    return status, answer.get("errcode")


@on_both_logs
def test_typing_wakes_who_waits(server: LiveServer) -> None:
    alice, bob, room = _two(server)
    token = bob.sync()["next_batch"]
    path = f"/rooms/{quoted(room)}/typing/{quoted(alice.id)}"
    answer = woken(bob, token, lambda: alice.do("PUT", path, {"typing": True, "timeout": TIMEOUT_MS_MAX}))
    (event,) = answer["rooms"]["join"][room]["ephemeral"]["events"]
    assert event == {"type": "m.typing", "content": {"user_ids": [alice.id]}}
    after = woken(bob, answer["next_batch"], lambda: alice.do("PUT", path, {"typing": False}))
    assert after["rooms"]["join"][room]["ephemeral"]["events"][0]["content"] == {"user_ids": []}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"typing": "yes"}, 400),
        ({"typing": True, "timeout": "1"}, 400),
        ({"typing": True, "timeout": -1}, 400),
        ({"typing": True, "timeout": 2**70}, 200),
        ({"typing": True, "timeout": 1.5}, 400),
        ({"typing": False}, 200),
    ],
)
def test_bad_typing(alice_in_room: tuple[User, str], body: Any, status: int) -> None:
    alice, room = alice_in_room
    assert alice.call("PUT", f"/rooms/{quoted(room)}/typing/{quoted(alice.id)}", body)[0] == status


def test_nobody_types_for_others(server: LiveServer) -> None:
    alice, bob, room = _two(server)
    path = f"/rooms/{quoted(room)}/typing/"
    assert alice.call("PUT", path + quoted(bob.id), {"typing": False})[1]["errcode"] == "M_FORBIDDEN"
    assert server.user("carol").call("PUT", path + quoted(alice.id), {"typing": True})[0] == 403
    carol = server.user("carol")
    assert carol.call("PUT", path + quoted(carol.id), {"typing": True})[1]["errcode"] == "M_FORBIDDEN"


@on_both_logs
def test_receipts_go_forwards(server: LiveServer) -> None:
    alice, bob, room = _two(server)
    first, second = alice.say(room, "1"), alice.say(room, "2")
    assert bob.sync()["rooms"]["join"][room]["unread_notifications"]["notification_count"] == 2
    assert _receipt(bob, room, "m.read", second) == (200, None)
    assert _receipt(bob, room, "m.read", first) == (200, None)
    (content,) = _ephemeral(alice, room, "m.receipt")
    assert set(content) == {second}
    assert set(content[second]["m.read"][bob.id]) == {"ts"}
    assert bob.sync()["rooms"]["join"][room]["unread_notifications"]["notification_count"] == 0


def test_private_receipts_are_ones_own(server: LiveServer) -> None:
    alice, bob, room = _two(server)
    event_id = alice.say(room, "1")
    assert _receipt(bob, room, "m.read.private", event_id) == (200, None)
    assert _ephemeral(alice, room, "m.receipt") == []
    assert list(_ephemeral(bob, room, "m.receipt")[0][event_id]) == ["m.read.private"]


def test_threads(server: LiveServer) -> None:
    alice, bob, room = _two(server)
    root, aside = alice.say(room, "root"), alice.say(room, "aside")
    in_thread = alice.say(room, "reply", content={"m.relates_to": {"rel_type": "m.thread", "event_id": root}})
    edit = alice.say(room, "edit", content={"m.relates_to": {"rel_type": "m.replace", "event_id": in_thread}})
    for event_id in (in_thread, edit):
        assert _receipt(bob, room, "m.read", event_id, {"thread_id": root}) == (200, None)
        assert _receipt(bob, room, "m.read", event_id, {"thread_id": "main"}) == (400, "M_INVALID_PARAM")
    assert _receipt(bob, room, "m.read", aside, {"thread_id": root}) == (400, "M_INVALID_PARAM")
    for event_id in (aside, root):
        assert _receipt(bob, room, "m.read", event_id, {"thread_id": "main"}) == (200, None)
    (content,) = _ephemeral(alice, room, "m.receipt")
    assert content[edit]["m.read"][bob.id]["thread_id"] == root
    assert content[aside]["m.read"][bob.id]["thread_id"] == "main"


@pytest.mark.parametrize(
    ("kind", "event_id", "body", "status", "errcode"),
    [
        ("m.seen", None, {}, 400, "M_INVALID_PARAM"),
        ("m.read", "event", {}, 400, "M_INVALID_PARAM"),
        ("m.read", "$none", {}, 404, "M_NOT_FOUND"),
        ("m.read", None, {"thread_id": ""}, 400, "M_INVALID_PARAM"),
        ("m.read", None, {"thread_id": 1}, 400, "M_INVALID_PARAM"),
        ("m.read", None, {"thread_id": None}, 400, "M_INVALID_PARAM"),
        ("m.read", None, {"thread_id": "$" + "x" * 5000}, 400, "M_INVALID_PARAM"),
        ("m.fully_read", None, {"thread_id": "main"}, 400, "M_INVALID_PARAM"),
        ("m.read", None, [], 400, "M_BAD_JSON"),
    ],
)
def test_bad_receipts(
    alice_in_room: tuple[User, str], kind: str, event_id: str | None, body: Any, status: int, errcode: str
) -> None:
    alice, room = alice_in_room
    event_id = event_id or alice.say(room, "x")
    assert _receipt(alice, room, kind, event_id, body) == (status, errcode)


def test_strangers_read_nothing(server: LiveServer) -> None:
    alice, _, room = _two(server)
    event_id = alice.say(room, "x")
    for kind in ("m.read", "m.fully_read"):
        assert _receipt(server.user("carol"), room, kind, event_id) == (403, "M_FORBIDDEN")


def test_read_markers(server: LiveServer) -> None:
    alice, bob, room = _two(server)
    event_id = alice.say(room, "x")
    markers = {"m.fully_read": event_id, "m.read": event_id, "m.read.private": event_id}
    bob.do("POST", f"/rooms/{quoted(room)}/read_markers", markers)
    path = f"/user/{quoted(bob.id)}/rooms/{quoted(room)}/account_data/m.fully_read"
    assert bob.do("GET", path) == {"event_id": event_id}
    assert set(_ephemeral(bob, room, "m.receipt")[0][event_id]) == {"m.read", "m.read.private"}
    bob.do("POST", f"/rooms/{quoted(room)}/read_markers", {})
    for body in ({"m.fully_read": "$none"}, {"m.read": 1}, {"m.read": "x"}):
        assert bob.call("POST", f"/rooms/{quoted(room)}/read_markers", body)[0] in (400, 404)
    later = alice.say(room, "y")
    assert _receipt(bob, room, "m.fully_read", later) == (200, None)
    assert bob.do("GET", path) == {"event_id": later}

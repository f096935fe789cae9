"""Sending, state, redactions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from annals.schemas.codec import decode
from annals.schemas.facts.rooms import PduCreated
from tests.support.server import LiveServer, User, bodies, quoted
from tests.support.server_fixtures import on_both_logs


def _send(user: User, room_id: str, event_type: str, transaction_id: str, content: Any) -> tuple[int, Any]:
    return user.call("PUT", f"/rooms/{quoted(room_id)}/send/{quoted(event_type)}/{quoted(transaction_id)}", content)


def _created(server: LiveServer, room_id: str) -> list[PduCreated]:
    log = server.house.log
    facts = [decode(r.value) for p in range(8) for r in log.read("rooms", p, 0, 100_000) if r.value is not None]
    return [fact for fact in facts if isinstance(fact, PduCreated) and fact.room_id == room_id]


@on_both_logs
def test_a_transaction_id_makes_one_event(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    first = alice.say(room, "once", "t1")
    assert alice.say(room, "once", "t1") == first
    assert alice.say(room, "other", "t2") != first
    # Another device has transaction ids of its own.
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.id},
        "password": "a long password",
    }
    status, login = server.call("POST", "/login", body)
    assert status == 200
    phone = User(server, alice.id, login["access_token"], login["device_id"])
    assert phone.say(room, "phone", "t1") != first
    assert bodies(alice.messages(room)["chunk"]) == ["phone", "other", "once"]


@on_both_logs
def test_twenty_tries_at_once_make_one_event(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    before = len(_created(server, room))
    path = f"/rooms/{quoted(room)}/send/m.room.message/same"
    answers = server.calls([("PUT", path, {"body": "x"}, alice.token)] * 20)
    assert {status for status, _ in answers} == {200}
    assert len({answer["event_id"] for _, answer in answers}) == 1
    assert len(_created(server, room)) == before + 1


@on_both_logs
def test_twenty_users_at_once(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room(preset="public_chat")
    users = [server.user("guest") for _ in range(20)]
    for user in users:
        user.join(room)
    path = f"/rooms/{quoted(room)}/send/m.room.message/1"
    answers = server.calls([("PUT", path, {"body": user.id}, user.token) for user in users])
    assert {status for status, _ in answers} == {200}
    said = bodies(alice.messages(room, limit=20)["chunk"])
    assert sorted(said) == sorted(user.id for user in users)


@pytest.mark.parametrize(
    ("content", "status", "errcode"),
    [
        (b"{", 400, "M_NOT_JSON"),
        (b"", 400, "M_NOT_JSON"),
        (b"[]", 400, "M_BAD_JSON"),
        (b'"\\ud800"', 400, "M_NOT_JSON"),
        (b'{"a":"\\ud800"}', 400, "M_NOT_JSON"),
        (b'{"a":1.5}', 400, "M_BAD_JSON"),
        (b'{"a":1e400}', 400, "M_NOT_JSON"),
        (b'{"a":%d}' % 2**53, 400, "M_BAD_JSON"),
        (b'{"a":%d}' % 2**200, 400, "M_BAD_JSON"),
        (b'{"a":' * 240 + b"1" + b"}" * 240, 400, "M_BAD_JSON"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, "M_NOT_JSON"),
        (json.dumps({"a": "x" * 66_000}).encode(), 413, "M_TOO_LARGE"),
        (json.dumps({"a": "x" * 300_000}).encode(), 413, "M_TOO_LARGE"),
        (b'{"a":"\xff"}', 400, "M_NOT_JSON"),
        (b"\xff\xfe", 400, "M_NOT_JSON"),
    ],
)
def test_bodies_that_are_no_event(
    server: LiveServer, alice_in_room: tuple[User, str], content: bytes, status: int, errcode: str
) -> None:
    alice, room = alice_in_room
    paths = [
        f"/_matrix/client/v3/rooms/{quoted(room)}/send/m.room.message/1",
        f"/_matrix/client/v3/rooms/{quoted(room)}/state/x/y",
    ]
    for path in paths:
        response = server.request("PUT", path, token=alice.token, content=content)
        assert (response.status_code, response.json()["errcode"]) == (status, errcode), path


@on_both_logs
def test_names_that_no_event_can_have(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    assert _send(alice, room, "t" * 256, "1", {})[0] == 400
    assert _send(alice, room, "t", "x" * 5_000, {})[1]["errcode"] == "M_INVALID_PARAM"
    assert alice.call("PUT", f"/rooms/{quoted(room)}/state/t/{'k' * 256}", {})[0] == 400
    assert _send(alice, "!unknown:test", "t", "1", {})[1]["errcode"] == "M_FORBIDDEN"
    assert _send(alice, "no room", "t", "1", {})[0] == 403
    assert _send(alice, room, "t\0\x01é", "\0/%2F", {"b": "\0"})[0] == 200
    assert alice.messages(room)["chunk"][0]["unsigned"]["transaction_id"] == "\0/%2F"


def test_who_may_not_send(server: LiveServer) -> None:
    alice, bob, carol = (server.user(name) for name in ("alice", "bob", "carol"))
    room = alice.create_room(preset="public_chat", invite=[carol.id])
    assert _send(bob, room, "m.room.message", "1", {})[1]["errcode"] == "M_FORBIDDEN"
    assert _send(carol, room, "m.room.message", "1", {})[0] == 403
    bob.join(room)
    assert _send(bob, room, "m.room.message", "1", {})[0] == 200
    assert bob.call("PUT", f"/rooms/{quoted(room)}/state/m.room.name", {"name": "mine"})[1]["errcode"] == "M_FORBIDDEN"
    bob.leave(room)
    assert _send(bob, room, "m.room.message", "2", {})[0] == 403
    # The retry of what was sent before is answered as it was.
    assert _send(bob, room, "m.room.message", "1", {})[0] == 200


@on_both_logs
def test_what_an_event_relates_to_may_be_anything(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    noise = "".join(chr(0x4E00 + (i * 7919) % 20_000) for i in range(18_000))
    relations: list[Any] = [noise, 1, None, {"event_id": noise}, {"event_id": []}, {"event_id": "$x\0"}]
    for number, relation in enumerate(relations):
        assert _send(alice, room, "m.room.message", str(number), {"m.relates_to": relation})[0] == 200
    assert alice.say(room, "still here")


def test_state_by_both_paths(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    path = f"/rooms/{quoted(room)}/state/m.room.name"
    for number, put in enumerate((path, path + "/")):
        event_id = alice.do("PUT", put, {"name": f"N{number}"})["event_id"]
        for get in (path, path + "/"):
            assert alice.do("GET", get) == {"name": f"N{number}"}
        event = alice.do("GET", path, params={"format": "event"})
        assert (event["event_id"], event["state_key"], event["sender"]) == (event_id, "", alice.id)
    assert event["unsigned"]["prev_content"] == {"name": "N0"}
    assert alice.call("GET", path, params={"format": "x"})[1]["errcode"] == "M_INVALID_PARAM"
    assert alice.call("GET", path + "/nothing")[1]["errcode"] == "M_NOT_FOUND"
    alice.set_state(room, "x", {"v": 1}, "a/b %é")
    assert alice.do("GET", f"/rooms/{quoted(room)}/state/x/{quoted('a/b %é')}") == {"v": 1}


@pytest.mark.parametrize("version", ["10", "11", "12"])
def test_redactions(server: LiveServer, version: str) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat", room_version=version)
    bob.join(room)
    of_alice, of_bob = alice.say(room, "mine"), bob.say(room, "his")
    base = f"/rooms/{quoted(room)}"
    assert bob.call("PUT", f"{base}/redact/{quoted(of_alice)}/1", {})[1]["errcode"] == "M_FORBIDDEN"
    assert bob.call("PUT", f"{base}/send/m.room.redaction/1", {"redacts": of_alice})[1]["errcode"] == "M_FORBIDDEN"
    assert bob.call("PUT", f"{base}/state/m.room.redaction", {"redacts": of_alice})[0] == 403
    made = bob.do("PUT", f"{base}/redact/{quoted(of_bob)}/2", {"reason": "typo"})["event_id"]
    assert bob.do("PUT", f"{base}/redact/{quoted(of_bob)}/2", {"reason": "typo"})["event_id"] == made
    event = alice.do("GET", f"{base}/event/{quoted(of_bob)}")
    assert event["content"] == {}
    because = event["unsigned"]["redacted_because"]
    assert (because["event_id"], because["redacts"], because["content"]["redacts"]) == (made, of_bob, of_bob)
    assert because["content"]["reason"] == "typo"
    # Power redacts others' events; by either endpoint.
    second = bob.say(room, "again")
    alice.do("PUT", f"{base}/send/m.room.redaction/1", {"redacts": second})
    assert alice.do("GET", f"{base}/event/{quoted(second)}")["content"] == {}


def test_a_redaction_is_answered_again_as_it_was(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat", room_version="11")
    bob.join(room)
    event_id = alice.say(room, "oh")
    base = f"/rooms/{quoted(room)}"
    levels = alice.do("GET", f"{base}/state/m.room.power_levels")
    alice.set_state(room, "m.room.power_levels", {**levels, "users": {**levels["users"], bob.id: 50}})
    made = bob.do("PUT", f"{base}/redact/{quoted(event_id)}/1", {})
    alice.set_state(room, "m.room.power_levels", levels)
    assert bob.do("PUT", f"{base}/redact/{quoted(event_id)}/1", {}) == made
    assert bob.call("PUT", f"{base}/redact/{quoted(event_id)}/2", {})[1]["errcode"] == "M_FORBIDDEN"


def test_redacting_what_is_not_there(server: LiveServer) -> None:
    alice = server.user("alice")
    room, other = alice.create_room(), alice.create_room()
    elsewhere = alice.say(other, "elsewhere")
    base = f"/rooms/{quoted(room)}"
    assert alice.call("PUT", f"{base}/redact/{quoted('$nothing')}/1", {})[1]["errcode"] == "M_NOT_FOUND"
    assert alice.call("PUT", f"{base}/redact/{quoted(elsewhere)}/2", {})[1]["errcode"] == "M_NOT_FOUND"
    assert alice.call("PUT", f"{base}/redact/x/3", {})[0] == 400
    assert alice.call("PUT", f"{base}/send/m.room.redaction/4", {})[1]["errcode"] == "M_MISSING_PARAM"
    assert alice.call("PUT", f"{base}/send/m.room.redaction/5", {"redacts": "$" + "x" * 60_000})[0] == 400
    assert alice.do("GET", f"/rooms/{quoted(other)}/event/{quoted(elsewhere)}")["content"]["body"] == "elsewhere"


def test_a_reaction_is_said_once(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    event_id = alice.say(room, "cake")
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": event_id, "key": "yum"}}
    first = _send(bob, room, "m.reaction", "1", content)
    assert first[0] == 200
    assert _send(bob, room, "m.reaction", "1", content) == first
    assert _send(bob, room, "m.reaction", "2", content)[1]["errcode"] == "M_DUPLICATE_ANNOTATION"
    assert _send(alice, room, "m.reaction", "1", content)[0] == 200
    bob.do("PUT", f"/rooms/{quoted(room)}/redact/{quoted(first[1]['event_id'])}/r", {})
    assert _send(bob, room, "m.reaction", "3", content)[0] == 200


def test_canonical_aliases_must_be_the_rooms(server: LiveServer) -> None:
    alice = server.user("alice")
    room, other = alice.create_room(), alice.create_room(room_alias_name=f"o-{alice.device_id}")
    mine, others = f"#m-{alice.device_id}:test", f"#o-{alice.device_id}:test"
    alice.do("PUT", f"/directory/room/{quoted(mine)}", {"room_id": room})
    path = f"/rooms/{quoted(room)}/state/m.room.canonical_alias"
    assert other != room
    for content, errcode in (
        ({"alias": others}, "M_BAD_ALIAS"),
        ({"alt_aliases": [mine, "#none:test"]}, "M_BAD_ALIAS"),
        ({"alias": "tea"}, "M_INVALID_PARAM"),
        ({"alias": 1}, "M_INVALID_PARAM"),
        ({"alt_aliases": {}}, "M_INVALID_PARAM"),
        ({"alt_aliases": [[]]}, "M_INVALID_PARAM"),
    ):
        status, answer = alice.call("PUT", path, content)
        assert (status, answer["errcode"]) == (400, errcode), content
    alice.do("PUT", path, {"alias": mine})
    alice.do("DELETE", f"/directory/room/{quoted(mine)}")
    # What stands there already is not looked at again.
    alice.do("PUT", path, {"alias": mine, "alt_aliases": [mine]})

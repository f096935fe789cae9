"""Paging through a room, and single events with what surrounds them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from annals.queries import timeline_pages
from tests.support.server import LiveServer, User, bodies, quoted
from tests.support.server_fixtures import on_both_logs


def _all(user: User, room_id: str, **params: Any) -> tuple[list[dict[str, Any]], int]:
    """All events that paging shows, and how many pages it took."""
    events, pages = [], 0
    place: dict[str, Any] = {}
    while True:
        page = user.messages(room_id, **{**params, **place})
        events += page["chunk"]
        pages += 1
        assert pages < 200
        if "end" not in page:
            return events, pages
        place = {"from": page["end"]}


def test_pages_neither_repeat_nor_skip(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    for number in range(7):
        alice.say(room, str(number))
    whole = alice.messages(room)
    assert "end" not in whole
    ids = [event["event_id"] for event in whole["chunk"]]
    assert whole["chunk"][-1]["type"] == "m.room.create"
    for limit in (1, 2, 3, len(ids) - 1, len(ids)):
        backwards, pages = _all(alice, room, limit=limit)
        assert [event["event_id"] for event in backwards] == ids
        assert pages == -(-len(ids) // limit)
        forwards, _ = _all(alice, room, limit=limit, dir="f")
        assert [event["event_id"] for event in forwards] == ids[::-1]
    first = alice.messages(room, limit=3)
    again = alice.messages(room, dir="f", **{"from": first["end"]})
    assert [event["event_id"] for event in again["chunk"]] == ids[:3][::-1]
    until = alice.messages(room, to=first["end"])
    assert [event["event_id"] for event in until["chunk"]] == ids[:3]
    assert alice.messages(room, limit=0)["chunk"] == []


@on_both_logs
def test_a_token_of_sync_is_a_place(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    alice.say(room, "before")
    token = alice.sync()["next_batch"]
    alice.say(room, "after")
    assert bodies(alice.messages(room, **{"from": token})["chunk"]) == ["before"]
    assert bodies(alice.messages(room, dir="f", **{"from": token})["chunk"]) == ["after"]
    assert bodies(alice.messages(room, to=token)["chunk"]) == ["after"]
    gap = alice.sync(token)
    timeline = gap["rooms"]["join"][room]["timeline"]
    assert bodies(alice.messages(room, **{"from": timeline["prev_batch"]})["chunk"]) == ["before"]


@pytest.mark.parametrize(
    "params",
    [
        {"from": "x"},
        {"from": "t1"},
        {"from": "t1-"},
        {"from": "t-1-2"},
        {"from": "t" + "9" * 30 + "-1"},
        {"from": "s1_"},
        {"from": "s1_" + "A" * 200},
        {"to": "\0"},
        {"dir": "x"},
        {"limit": "x"},
        {"limit": "-1"},
        {"limit": "1" * 40},
        {"filter": '{"limit":"x"}'},
        {"filter": '{"types":"x"}'},
        {"filter": "[]"},
        {"filter": "{"},
        {"filter": '{"types":["\\ud800"]}'},
    ],
)
def test_bad_parameters(alice_in_room: tuple[User, str], params: dict[str, str]) -> None:
    alice, room = alice_in_room
    status, answer = alice.call("GET", f"/rooms/{quoted(room)}/messages", params={"dir": "b", **params})
    assert status == 400, answer
    assert answer["errcode"] in ("M_INVALID_PARAM", "M_BAD_JSON", "M_NOT_JSON")


def test_a_direction_is_needed(server: LiveServer) -> None:
    alice = server.user("alice")
    assert alice.call("GET", f"/rooms/{quoted(alice.create_room())}/messages")[1]["errcode"] == "M_MISSING_PARAM"


def test_filters(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    alice.say(room, "a")
    bob.say(room, "b", content={"url": "mxc://test/x"})
    for definition, expected in (
        ({"types": ["m.room.message"]}, ["b", "a"]),
        ({"types": ["m.room.*"], "not_types": ["m.room.message"]}, []),
        ({"senders": [bob.id]}, ["b"]),
        ({"not_senders": [bob.id]}, ["a"]),
        ({"contains_url": True}, ["b"]),
        ({"rooms": []}, []),
        ({"not_rooms": [room]}, []),
        ({"types": ["x\0"]}, []),
    ):
        assert bodies(alice.messages(room, filter=json.dumps(definition))["chunk"]) == expected, definition


def test_lazy_members(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    alice.say(room, "a")
    bob.say(room, "b")
    lazy = json.dumps({"lazy_load_members": True})
    state = alice.messages(room, limit=1, filter=lazy)["state"]
    assert [(event["type"], event["state_key"]) for event in state] == [("m.room.member", bob.id)]
    assert {event["state_key"] for event in alice.messages(room, limit=2, filter=lazy)["state"]} == {alice.id, bob.id}
    assert "state" not in alice.messages(room)


def test_a_filter_that_nothing_passes_ends(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_pages, "SKIPPED_MAX", 20)
    alice = server.user("alice")
    room = alice.create_room()
    alice.say(room, "needle")
    alice.say_many(room, [str(number) for number in range(70)])
    name = json.dumps({"types": ["m.room.create"]})
    for direction in ("b", "f"):
        events, pages = _all(alice, room, filter=name, dir=direction)
        assert [event["type"] for event in events] == ["m.room.create"]
        assert pages > 2


def test_what_is_hidden_is_paged_over(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event, a hundred that the reader may not see, another event."""
    alice, bob = server.user("alice"), server.user("bob")
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room = alice.create_room(preset="public_chat", initial_state=[visibility])
    bob.join(room)
    alice.say(room, "first")
    bob.leave(room)
    alice.say_many(room, [f"hidden {number}" for number in range(100)])
    bob.join(room)
    alice.say(room, "last")
    for judged_max, page_count in ((2_500, 1), (25, 4)):
        monkeypatch.setattr(timeline_pages, "JUDGED_MAX", judged_max)
        for direction, expected in (("b", ["last", "first"]), ("f", ["first", "last"])):
            events, pages = _all(bob, room, limit=30, dir=direction)
            assert bodies(events) == expected
            assert pages >= page_count
    assert len(bodies(_all(alice, room)[0])) == 102


def test_single_events(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room, other = alice.create_room(), alice.create_room()
    event_id = alice.say(room, "hello")
    event = alice.do("GET", f"/rooms/{quoted(room)}/event/{quoted(event_id)}")
    assert (event["event_id"], event["room_id"], event["content"]["body"]) == (event_id, room, "hello")
    for what in ("event", "context"):
        for user, room_id, name in ((bob, room, event_id), (alice, other, event_id), (alice, room, "$none"),
                                    (alice, room, "\0"), (alice, "!none:test", event_id)):  # fmt: skip
            status, answer = user.call("GET", f"/rooms/{quoted(room_id)}/{what}/{quoted(name)}")
            assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")


def test_context(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    ids = [alice.say(room, str(number)) for number in range(6)]
    alice.set_state(room, "m.room.name", {"name": "late"})
    path = f"/rooms/{quoted(room)}/context/{quoted(ids[2])}"
    context = alice.do("GET", path, params={"limit": 4})
    assert context["event"]["event_id"] == ids[2]
    assert [event["event_id"] for event in context["events_before"]] == [ids[1], ids[0]]
    assert [event["event_id"] for event in context["events_after"]] == [ids[3], ids[4]]
    assert "m.room.name" not in {event["type"] for event in context["state"]}
    assert bodies(alice.messages(room, dir="f", **{"from": context["end"]})["chunk"]) == ["5"]
    assert bodies(alice.messages(room, **{"from": context["start"]})["chunk"]) == []
    alone = alice.do("GET", path, params={"limit": 0})
    assert (alone["events_before"], alone["events_after"]) == ([], [])
    lazy = alice.do("GET", path, params={"limit": 100, "filter": json.dumps({"lazy_load_members": True})})
    assert {event["type"] for event in lazy["state"]} >= {"m.room.name", "m.room.create", "m.room.member"}


def test_relations(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    root = alice.say(room, "root")
    for number in range(3):
        alice.say(room, f"reply {number}", content={"m.relates_to": {"rel_type": "m.thread", "event_id": root}})
    edit = {"rel_type": "m.replace", "event_id": root}
    alice.say(room, "edit", content={"m.relates_to": edit})
    alice.say(room, "odd\0", content={"m.relates_to": edit})
    path = f"/_matrix/client/v1/rooms/{quoted(room)}/relations/{quoted(root)}"
    everything = ["odd\0", "edit", "reply 2", "reply 1", "reply 0"]
    assert bodies(alice.do("GET", path)["chunk"]) == everything
    assert bodies(alice.do("GET", f"{path}/m.thread")["chunk"]) == everything[2:]
    assert bodies(alice.do("GET", f"{path}/m.thread/m.room.message", params={"dir": "f"})["chunk"]) == everything[:1:-1]
    assert alice.do("GET", f"{path}/m.thread/m.sticker")["chunk"] == []
    first = alice.do("GET", f"{path}/m.thread", params={"limit": 2})
    rest = alice.do("GET", f"{path}/m.thread", params={"limit": 2, "from": first["next_batch"]})
    assert bodies(rest["chunk"]) == ["reply 0"]
    assert "next_batch" not in rest
    stranger = server.user("bob")
    assert stranger.call("GET", path)[0] == 404


def _near(user: User, room_id: str, **params: Any) -> tuple[int, Any]:
    return user.call("GET", f"/_matrix/client/v1/rooms/{quoted(room_id)}/timestamp_to_event", params=params)


def test_the_event_nearest_to_a_moment(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat")
    said = [alice.say(room, str(number)) for number in range(3)]
    times = {event["event_id"]: event["origin_server_ts"] for event in alice.messages(room)["chunk"]}
    for event_id in said:
        for direction in ("f", "b"):
            status, found = _near(alice, room, ts=times[event_id], dir=direction)
            assert (status, found["origin_server_ts"]) == (200, times[event_id])
            assert times[found["event_id"]] == times[event_id]
    assert _near(alice, room, ts=times[said[-1]] + 10**6, dir="b")[1]["event_id"] == said[-1]
    assert times[_near(alice, room, ts=0, dir="f")[1]["event_id"]] == min(times.values())
    for params in ({"ts": 0, "dir": "b"}, {"ts": times[said[-1]] + 1, "dir": "f"}):
        assert _near(alice, room, **params)[1]["errcode"] == "M_NOT_FOUND"
    assert _near(bob, room, ts=0, dir="f")[1]["errcode"] == "M_FORBIDDEN"
    bad: list[dict[str, Any]] = [
        {},
        {"ts": 1},
        {"dir": "f"},
        {"ts": "x", "dir": "f"},
        {"ts": -1, "dir": "f"},
        {"ts": 1, "dir": "x"},
    ]
    for params in bad:
        assert _near(alice, room, **params)[0] == 400, params

"""GET /sync: its parameters, and waiting."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import pytest

from annals.eventlog.partition import partition_of
from annals.queries.sync.token import unpack
from tests.support.patience import PATIENCE_S
from tests.support.remote_server import RemoteServer
from tests.support.server import LiveServer, User, bodies, quoted
from tests.support.server_fixtures import on_both_logs
from tests.support.waiting_sync import woken


@on_both_logs
def test_waiting_ends_when_something_comes(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    token = bob.sync()["next_batch"]
    answer = woken(bob, token, lambda: alice.say(room, "ping"))
    assert bodies(answer["rooms"]["join"][room]["timeline"]["events"]) == ["ping"]
    began = time.monotonic()
    quiet = bob.sync(answer["next_batch"], timeout=300)
    assert time.monotonic() - began > 0.25, "it waited"
    assert "rooms" not in quiet


def test_an_invite_wakes(server: LiveServer) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(name="Tea")
    token = bob.sync()["next_batch"]
    answer = woken(bob, token, lambda: alice.do("POST", f"/rooms/{quoted(room)}/invite", {"user_id": bob.id}))
    stripped = answer["rooms"]["invite"][room]["invite_state"]["events"]
    assert {"m.room.name", "m.room.member", "m.room.create"} <= {event["type"] for event in stripped}


def test_a_token_that_the_tables_have_not_reached_is_waited_for(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    token = unpack(alice.sync()["next_batch"])
    its_own = partition_of(room, len(token.rooms))
    ahead = replace(token, rooms=tuple(offset + (n == its_own) for n, offset in enumerate(token.rooms))).pack()
    with ThreadPoolExecutor(1) as threads:
        poll = threads.submit(alice.sync, ahead)
        assert wait([poll], 0.2).not_done, "it was answered from tables that are behind it"
        alice.say(room, "they have reached it")
        assert poll.result()["next_batch"]
    # Somebody may say something in another room of the partition, but not so much.
    far = replace(token, rooms=tuple(offset + 1_000 for offset in token.rooms)).pack()
    sync = server.services.sync
    assert (server.house.appender.wait_s, sync._behind_wait_s) == (PATIENCE_S, PATIENCE_S), "as tables_wait_s says"
    monkeypatch.setattr(sync, "_behind_wait_s", 0.0)
    status, answer = alice.call("GET", "/sync", params={"since": far})
    assert (status, answer["errcode"]) == (503, "M_UNKNOWN")


def test_filters_inline_and_by_id(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room()
    for number in range(5):
        alice.say(room, str(number))
    definition = {"room": {"timeline": {"limit": 2, "types": ["m.room.message"]}}}
    stored = alice.do("POST", f"/user/{quoted(alice.id)}/filter", definition)["filter_id"]
    for named in (json.dumps(definition), stored):
        timeline = alice.sync(filter=named)["rooms"]["join"][room]["timeline"]
        assert bodies(timeline["events"]) == ["3", "4"]
        assert timeline["limited"] is True


@pytest.mark.parametrize(
    "params",
    [
        {"since": "x"},
        {"since": "s1_"},
        {"since": "s1_!!!"},
        {"since": "s1_" + "A" * 500},
        {"since": "\0"},
        {"filter": "{"},
        {"filter": '{"room":1}'},
        {"filter": '{"room":{"timeline":{"limit":"1"}}}'},
        {"filter": "none"},
        {"filter": "\0"},
        {"timeout": "x"},
        {"timeout": "-1"},
        {"full_state": "yes"},
        {"use_state_after": "1"},
        {"set_presence": "away"},
    ],
)
def test_bad_parameters(alice_in_room: tuple[User, str], params: dict[str, Any]) -> None:
    alice, _ = alice_in_room
    status, answer = alice.call("GET", "/sync", params=params)
    assert status == 400, answer
    assert answer["errcode"] in ("M_INVALID_PARAM", "M_NOT_JSON", "M_BAD_JSON")


def test_a_token_is_needed(server: LiveServer) -> None:
    assert server.call("GET", "/sync")[1]["errcode"] == "M_MISSING_TOKEN"
    assert server.call("GET", "/rooms/x/messages?dir=b")[0] == 401
    assert server.call("PUT", "/rooms/x/send/m/1", {})[0] == 401


def test_full_state_and_state_after(server: LiveServer) -> None:
    alice = server.user("alice")
    room = alice.create_room(name="one")
    token = alice.sync(set_presence="offline")["next_batch"]
    alice.set_state(room, "m.room.name", {"name": "two"})
    full = alice.sync(token, full_state="true")["rooms"]["join"][room]
    assert "m.room.create" in {event["type"] for event in full["state"]["events"]}
    after = alice.sync(token, use_state_after="true")["rooms"]["join"][room]
    assert [event["content"] for event in after["state_after"]["events"]] == [{"name": "two"}]


def _ids(section: dict[str, Any]) -> list[str]:
    return [event["event_id"] for event in section["events"]]


@pytest.mark.parametrize("filtered", ["org.merge", "m.room.message", "org.other"])
def test_state_of_a_fork_is_shown_whatever_the_filter_leaves_out(server: LiveServer, filtered: str) -> None:
    """One of two branches brings it; left out is their merge, or what stands on either."""
    alice, remote = server.user("alice"), RemoteServer(server)
    bob, room_id = remote.user("bob"), alice.create_room(preset="public_chat")
    remote.join(room_id, bob)
    levels = alice.do("GET", f"/rooms/{quoted(room_id)}/state/m.room.power_levels")
    alice.set_state(room_id, "m.room.power_levels", levels | {"events": {"org.other": 0}})
    # It stands upon what there is before Alice speaks.
    state = remote.build(room_id, bob, "org.other", {"of": "the fork"}, "")
    first = alice.say(room_id, "on the other branch")
    since = alice.sync()["next_batch"]
    remote.push(state)
    second = remote.build(room_id, bob, "m.room.message", {"body": "on it, too"}, prev_events=[first])
    remote.push(second)
    merge = remote.build(room_id, bob, "org.merge", {}, prev_events=[second.event_id, state.event_id])
    remote.push(merge)
    chosen = json.dumps({"room": {"timeline": {"limit": 1, "not_types": [filtered]}}})
    answer = alice.sync(since, filter=chosen)
    shown = answer["rooms"]["join"][room_id]
    timeline, before = _ids(shown["timeline"]), _ids(shown["state"])
    assert len(timeline) == 1
    assert state.event_id in timeline + before
    assert not {first, second.event_id, merge.event_id} & set(before)
    later = alice.say(room_id, "later")
    shown = alice.sync(answer["next_batch"])["rooms"]["join"][room_id]
    assert (_ids(shown["timeline"]), _ids(shown["state"])) == ([later], []), "once is enough"

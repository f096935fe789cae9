"""Our users in rooms of a scripted server, through a whole server of ours: api, remote, projectors, tables."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.crashes import at
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import membership, process_of, waits_to_see
from tests.support.matrix_client import Client, Unexpected
from tests.support.room_peers import ThreadedRoomPeer, room_peer
from tests.support.scripted_peer import Authority, a_client
from tests.support.scripted_room import PREFIX, ScriptedRoom
from tests.support.waiting import until

VERSIONS = ("1", "6", "10", "12")


@pytest.fixture
def peer(authority: Authority, tmp_path: Path) -> Iterator[ThreadedRoomPeer]:
    with room_peer(authority, tmp_path) as made:
        yield made


def _join(person: Client, room: ScriptedRoom, *servers: str) -> tuple[int, dict[str, Any]]:
    return person.call("POST", f"/join/{quote(room.room_id)}", {}, {"via": (servers or (room.server,))[0]})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_room_is_joined_and_read(annals: Homeserver, peer: ThreadedRoomPeer, version: str) -> None:
    ann, room = annals.person(), peer.make_room(version, members=5)
    room.add("m.room.name", room.creator, "", {"name": "elsewhere"})
    assert _join(ann, room) == (200, {"room_id": room.room_id})
    [sent] = room.sent
    assert (sent.sender, sent.content["membership"]) == (ann.user_id, "join")
    state = {(event["type"], event["state_key"]): event["event_id"] for event in ann.state(room.room_id)}
    assert state == {key: event.event_id for key, event in room.state.items()}
    joined = ann.sync(timeout=0)["rooms"]["join"]
    assert room.room_id in joined
    # Again: nothing is asked of anybody.
    asked = len(peer.requests)
    assert _join(ann, room)[0] == 200
    assert len(peer.requests) == asked


def test_the_second_of_us_joins_here(annals: Homeserver, peer: ThreadedRoomPeer) -> None:
    ann, bob, room = annals.person(), annals.person(), peer.make_room("10")
    assert _join(ann, room)[0] == 200
    asked = len(peer.asked_to_make())
    assert _join(bob, room)[0] == 200
    assert len(peer.asked_to_make()) == asked
    assert membership(ann, room.room_id, bob.user_id) == "join"


def test_a_lie_or_a_refusal_is_the_answer_and_nothing_is_joined(annals: Homeserver, peer: ThreadedRoomPeer) -> None:
    ann, room = annals.person(), peer.make_room("10", members=2)
    room.template_lie = lambda answer: {**answer, "event": {**answer["event"], "sender": "@eve:elsewhere"}}
    status, answer = _join(ann, room)
    assert (status, answer["errcode"]) == (502, "M_UNKNOWN")
    room.template_lie = lambda answer: answer
    room.answer_lie = lambda answer: {**answer, "state": answer["state"][1:]}
    status, answer = _join(ann, room)
    assert status == 502
    assert "create" in answer["error"]
    room.answer_lie = lambda answer: answer
    peer.refuses["make_join"] = (403, {"errcode": "M_FORBIDDEN", "error": "not you"})
    assert _join(ann, room) == (403, {"errcode": "M_FORBIDDEN", "error": "not you"})
    peer.refuses.clear()
    assert ann.ok("GET", "/joined_rooms")["joined_rooms"] == []
    assert _join(ann, room)[0] == 200
    assert ann.ok("GET", "/joined_rooms")["joined_rooms"] == [room.room_id]


def test_a_room_is_joined_by_an_alias_of_another_server(annals: Homeserver, peer: ThreadedRoomPeer) -> None:
    ann, room = annals.person(), peer.make_room("11")
    peer.on("GET", "/_matrix/federation/v1/query/directory", {"room_id": room.room_id, "servers": [peer.name]})
    alias = quote(f"#there:{peer.name}")
    found = ann.ok("GET", f"/directory/room/{alias}")
    assert found == {"room_id": room.room_id, "servers": [peer.name]}
    assert ann.ok("POST", f"/join/{alias}", {}) == {"room_id": room.room_id}
    profile = {"displayname": "Creator"}
    peer.on("GET", "/_matrix/federation/v1/query/profile", profile)
    assert ann.ok("GET", f"/profile/{quote(room.creator)}") == profile
    nobody = quote("#there:nobody.invalid")
    assert ann.call("GET", f"/directory/room/{nobody}")[0] == 502


def test_without_a_server_to_ask_there_is_no_such_room(annals: Homeserver) -> None:
    ann = annals.person()
    for verb in ("join", "knock"):
        status, answer = ann.call("POST", f"/{verb}/{quote('!nowhere:peer.example')}", {})
        assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")


def test_knocks_are_shown_and_taken_back(annals: Homeserver, peer: ThreadedRoomPeer) -> None:
    ann, room = annals.person(), peer.make_room("10", join_rule={"join_rule": "knock"})
    assert ann.ok("POST", f"/knock/{quote(room.room_id)}", {"reason": "please"}, {"via": peer.name})
    assert [event.content["membership"] for event in room.sent] == ["knock"]
    ann.room(room.room_id, "leave")
    assert [event.content["membership"] for event in room.sent] == ["knock", "leave"]
    # Once more: there is nothing left to leave.
    ann.room(room.room_id, "leave")
    assert len(room.sent) == 2


def test_a_restricted_room_is_joined_through_a_server_that_may_let_us_in(
    annals: Homeserver, peer: ThreadedRoomPeer
) -> None:
    ann, bob = annals.person(), annals.person()
    door = peer.make_room("10")
    allow = [{"type": "m.room_membership", "room_id": door.room_id}]
    room = peer.make_room("10", join_rule={"join_rule": "restricted", "allow": allow})
    for person in (ann, bob):
        assert _join(person, door)[0] == 200
        # For the second of them we are in the room already; but nobody of us may let others in.
        assert _join(person, room)[0] == 200
    for event in room.sent:
        assert event.content["join_authorised_via_users_server"] == room.creator
    members = ann.ok("GET", f"/rooms/{quote(room.room_id)}/joined_members")["joined"]
    assert set(members) == {ann.user_id, bob.user_id, room.creator}


@pytest.mark.parametrize("endpoint", ["make_join", "send_join"])
def test_a_dropped_connection_is_a_failed_join_and_the_next_one_works(
    annals: Homeserver, peer: ThreadedRoomPeer, endpoint: str
) -> None:
    ann, room = annals.person(), peer.make_room("10")
    peer.breaks_off = {endpoint}
    assert _join(ann, room)[0] == 502
    peer.breaks_off = set()
    assert _join(ann, room)[0] == 200


def test_a_join_survives_the_death_of_who_carries_it_out(annals: Homeserver, peer: ThreadedRoomPeer) -> None:
    ann, room = annals.person(), peer.make_room("10", members=20)
    killed: list[int] = []

    async def kill() -> None:
        if not killed:
            killed.append(process_of(annals, "remote"))
            os.kill(killed[0], signal.SIGKILL)

    peer.before_answer = kill
    answer = ann.ok("POST", f"/join/{quote(room.room_id)}", {}, {"via": peer.name}, patient=True)
    assert answer == {"room_id": room.room_id}
    assert len(killed) == 1
    state = {event["event_id"] for event in ann.state(room.room_id)}
    assert state == {event.event_id for event in room.state.values()}


def test_a_name_is_changed_while_a_room_is_joined_and_who_asked_is_gone(
    annals: Homeserver, peer: ThreadedRoomPeer
) -> None:
    """The room gets the newest name, though the process that asked for the join looks at nothing any more."""
    ann, room = annals.person(), peer.make_room("10")
    killed: list[int] = []

    async def change() -> None:
        if not killed:
            await asyncio.to_thread(ann.ok, "PUT", f"/profile/{quote(ann.user_id)}/displayname", {"displayname": "new"})
            killed.append(process_of(annals, "api"))
            os.kill(killed[0], signal.SIGKILL)

    peer.before_answer = change
    with pytest.raises(OSError):
        _join(at(ann), room)
    assert "displayname" not in room.sent[0].content
    path = f"/rooms/{quote(room.room_id)}/state/m.room.member/{quote(ann.user_id)}"

    def shown() -> object:
        with suppress(OSError, Unexpected):
            return ann.ok("GET", path, patient=True).get("displayname")
        return None

    until(lambda: shown() == "new", "the room shows the new name")


def test_what_is_said_during_the_join_waits_for_its_end(
    annals: Homeserver, peer: ThreadedRoomPeer, authority: Authority
) -> None:
    """The room is active: its events are answered at once, before we can judge them, and are there after the join."""
    people, room = [annals.person() for _ in range(3)], peer.make_room("10", members=20)
    said: list[str] = []

    async def talk() -> None:
        events = [room.say(f"meanwhile {number}") for number in range(30)]
        said.extend(event.event_id for event in events)
        transaction = {"origin": peer.name, "origin_server_ts": 1, "pdus": [event.pdu for event in events]}
        async with a_client(authority, server_name=peer.name, key=peer.key, now_ms=peer.now_ms) as client:
            await client.put(annals.name, f"{PREFIX}v1/send/during{len(said)}", transaction)

    peer.before_answer = talk
    with ThreadPoolExecutor(len(people)) as threads:
        answers = list(threads.map(lambda person: _join(person, room), people))
    assert answers == [(200, {"room_id": room.room_id})] * len(people)
    assert len(said) == 30, "one join went by way of the other server, the others are attached to it"
    for person in people:
        waits_to_see(person, room.room_id, *said)
    messages = people[0].ok("GET", f"/rooms/{quote(room.room_id)}/messages", query={"dir": "b", "limit": 100})
    shown = [event["event_id"] for event in reversed(messages["chunk"]) if event["event_id"] in said]
    assert sorted(shown) == sorted(said)


def test_the_same_join_asked_twice_is_one(annals: Homeserver, peer: ThreadedRoomPeer) -> None:
    ann, room = annals.person(), peer.make_room("10")
    peer.gate.clear()
    # The first time the client goes away before there is an answer.
    with closing(http.client.HTTPConnection("127.0.0.1", ann.port)) as impatient:
        path = f"/_matrix/client/v3/join/{quote(room.room_id)}?via={peer.name}"
        impatient.request("POST", path, "{}", {"Authorization": f"Bearer {ann.token}"})
        until(lambda: peer.requests, "the other server is asked")
    peer.open_gate()
    assert _join(ann, room)[0] == 200
    assert len(peer.asked_to_make()) == 1


def test_a_room_of_ten_thousand(annals: Homeserver, peer: ThreadedRoomPeer) -> None:
    ann, room = annals.person(), peer.make_room("10", members=10_000)
    began_s = time.monotonic()
    ann.ok("POST", f"/join/{quote(room.room_id)}", {}, {"via": peer.name}, patient=True)
    sys.stdout.write(f"joined a room of 10,000 members in {time.monotonic() - began_s:.1f} s\n")
    assert membership(ann, room.room_id, f"@member9999:{peer.name}") == "join"
    until(lambda: ann.say(room.room_id, "here"), "the room can be talked in")

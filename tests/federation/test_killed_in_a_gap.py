"""Each process of a whole server is killed while a gap is being filled: what was acknowledged is there, and the room
goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from annals.federation.errors import FederationError
from annals.matrix.events import Event
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import process_of
from tests.support.matrix_client import Client, quote
from tests.support.room_peers import ThreadedRoomPeer, room_peer
from tests.support.scripted_peer import Authority, a_client
from tests.support.scripted_room import PREFIX, ScriptedRoom
from tests.support.waiting import until


@pytest.fixture
def peer(authority: Authority, tmp_path: Path) -> Iterator[ThreadedRoomPeer]:
    with room_peer(authority, tmp_path) as made:
        yield made


def _push(peer: ThreadedRoomPeer, authority: Authority, to: Homeserver, *events: Event) -> None:
    """A transaction, again under its id until it is acknowledged."""
    content = {"origin": peer.name, "origin_server_ts": 1, "pdus": [event.pdu for event in events]}

    async def put() -> Any:
        async with a_client(authority, server_name=peer.name, key=peer.key, now_ms=peer.now_ms) as client:
            return await client.put(to.name, f"{PREFIX}v1/send/{events[0].event_id[1:20]}", content)

    def acknowledged() -> Any:
        try:
            return asyncio.run(put())
        except FederationError:
            return None

    assert until(acknowledged, "acknowledged") == {"pdus": {event.event_id: {} for event in events}}


def _waits_to_see(person: Client, room_id: str, event_id: str) -> None:
    def seen() -> bool:
        try:
            return person.call("GET", f"/rooms/{quote(room_id)}/event/{quote(event_id)}")[0] == 200
        except OSError:
            return False

    until(seen, f"{person.user_id} sees {event_id}")


def _deep_gap(peer: ThreadedRoomPeer, room: ScriptedRoom, at_state: Any) -> tuple[Event, Event]:
    """(told, pushed): below them lies more, which only the state before it can bridge. `at_state` is called when that
    is asked for, before the answer."""
    anchor = [room.say(f"hidden {number}") for number in range(3)][-1]
    told, pushed = room.say("told"), room.say("pushed")
    state = list(room.state.values())
    answer = {
        "pdu_ids": [event.event_id for event in state],
        "auth_chain_ids": [event.event_id for event in room.auth_chain(state)],
    }

    async def state_ids(_: web.Request) -> web.StreamResponse:
        at_state()
        return web.json_response(answer)

    peer.on("POST", f"{PREFIX}v1/get_missing_events/{room.room_id}", {"events": [told.pdu]})
    peer.on("GET", f"{PREFIX}v1/event/{anchor.event_id}", {"pdus": [anchor.pdu]})
    peer.on("GET", f"{PREFIX}v1/state_ids/{room.room_id}", state_ids)
    return told, pushed


@pytest.mark.parametrize("role", ["api", "projectors", "remote"])
def test_a_process_is_killed_in_the_middle_of_a_gap(
    annals: Homeserver, peer: ThreadedRoomPeer, authority: Authority, role: str
) -> None:
    ann, room = annals.person(), peer.make_room("10", members=3)
    ann.ok("POST", f"/join/{quote(room.room_id)}", {}, {"via": peer.name})
    said = ann.say(room.room_id, "before")
    killed: list[int] = []

    def kill() -> None:
        if not killed:
            killed.append(process_of(annals, role))
            os.kill(killed[0], signal.SIGKILL)

    told, pushed = _deep_gap(peer, room, kill)
    _push(peer, authority, annals, pushed)
    for event_id in (pushed.event_id, told.event_id, said):
        _waits_to_see(ann, room.room_id, event_id)
    assert len(killed) == 1
    after = room.say("after")
    _push(peer, authority, annals, after)
    _waits_to_see(ann, room.room_id, after.event_id)
    answer = ann.say(room.room_id, "and on it goes", patient=True)
    _waits_to_see(ann, room.room_id, answer)
    assert process_of(annals, role) != killed[0]

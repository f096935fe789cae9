"""A scripted server whose rooms our server is in, or seems to be, without knowing of it.

    peer = ResidentPeer(authority, folder)
    room = peer.make_room("10", members=3)
    ours = join_of_ours(room, "@ghost:test", signing_key)        # as it would stand there had we lost our log
    peer.remote(server).send([room.say("are you there?").pdu])

It answers /state and /get_missing_events of its rooms, each a line of events.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web

from annals.matrix.events import Event
from annals.matrix.signing import SigningKey
from tests.support.remote_server import RemoteServer
from tests.support.scripted_peer import Handler, Received
from tests.support.scripted_room import MEMBER, PREFIX, RoomPeer, ScriptedRoom
from tests.support.server import LiveServer


def join_of_ours(room: ScriptedRoom, user: str, key: SigningKey) -> Event:
    """A user of ours joins, signed by this key in our name; the room takes it."""
    return room.take(
        room.build(MEMBER, user, user, {"membership": "join"}, key=key, server_name=user.partition(":")[2])
    )


class ResidentPeer(RoomPeer):
    """The server."""

    def remote(self, server: LiveServer) -> RemoteServer:
        """Its voice towards our server, which fetches its keys as those of any other."""
        remote = RemoteServer(server, self.name, has_keys=False)
        remote.key = self.key
        return remote

    def asked_for_state(self, room: ScriptedRoom) -> list[Received]:
        """The requests for the room's state."""
        return self.asked(f"{PREFIX}v1/state/{quote(room.room_id, safe='')}")

    def _default(self, request: web.Request) -> Handler | None:
        parts = request.path.removeprefix(PREFIX + "v1/").split("/", 1)
        room = self.rooms.get(unquote(parts[1])) if len(parts) == 2 else None
        if room is None or parts[0] not in ("state", "get_missing_events"):
            return super()._default(request)

        async def serve(got: web.Request) -> web.StreamResponse:
            if parts[0] == "state":
                return _state(room, got.query["event_id"])
            return web.json_response({"events": _between(room, await got.json())})

        return serve


def _state(room: ScriptedRoom, event_id: str) -> web.StreamResponse:
    """The state before an event."""
    if event_id not in room.events:
        return web.json_response({"errcode": "M_NOT_FOUND", "error": "no such event"}, status=404)
    state: dict[Any, Event] = {}
    for event in room.events.values():
        if event.event_id == event_id:
            break
        if event.is_state:
            state[event.key] = event
    # An event of another room that a test put in has no chain here.
    chain = room.auth_chain([event for event in state.values() if room.events.keys() >= set(event.auth_events)])
    return web.json_response({"pdus": [e.pdu for e in state.values()], "auth_chain": [e.pdu for e in chain]})


def _between(room: ScriptedRoom, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    ids = list(room.events)
    first = max((ids.index(event_id) + 1 for event_id in wanted["earliest_events"] if event_id in ids), default=0)
    last = min(ids.index(event_id) for event_id in wanted["latest_events"])
    return [room.events[event_id].pdu for event_id in ids[first:last][-wanted["limit"] :]]

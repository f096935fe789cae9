"""A LiveServer that may ask scripted peers on loopback (tests.support.scripted_peer), which run on its event loop.

with federating(url, folder) as world:
    peer = world.peer()                   # its name is localhost:port
    alice = world.server.user("alice")
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from annals.matrix.events import Event, parse_event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import SigningKey, sign_event
from tests.support.scripted_peer import Authority, Handler, ScriptedPeer, make_authority, reference_key
from tests.support.server import LiveServer, live_server, quoted

SEED = b"\5" * 32
#: The key of every peer that nobody gave another one.
KEY = SigningKey("ed25519:a_1", SEED)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class World:
    """The server, and what its peers need."""

    server: LiveServer
    authority: Authority
    folder: Path
    peers: list[ScriptedPeer]

    def peer(self) -> ScriptedPeer:
        """Another scripted server, which runs until the end."""

        async def begin() -> ScriptedPeer:
            peer = ScriptedPeer(self.authority, self.folder, "localhost")
            peer.keys, peer.now_ms = [reference_key("a_1", SEED)], _now_ms
            return await peer.__aenter__()

        self.peers.append(self.server.on_loop(begin()))
        return self.peers[-1]


@contextmanager
def federating(url: str, folder: Path) -> Iterator[World]:
    """The world over a migrated database."""
    authority = make_authority(folder / "authority")
    section = {"ca_files": [authority.cert], "allowed_ranges": ["127.0.0.0/8", "::1/128"]}
    with live_server(url, folder / "server", federation=section) as server:
        world = World(server, authority, folder, [])
        try:
            yield world
        finally:
            for peer in world.peers:
                server.on_loop(peer.__aexit__())


def signs_invites(peer: ScriptedPeer, key: SigningKey = KEY, **changes: Any) -> Handler:
    """A handler of PUT v2/invite that signs what it is given; `changes` to the event are made before that."""

    async def sign(request: web.Request) -> web.StreamResponse:
        content = await request.json()
        rules = ROOM_VERSIONS[content["room_version"]]
        pdu = sign_event({**content["event"], **changes}, rules, peer.name, key)
        return web.json_response({"event": pdu})

    return sign


def on_invites(peer: ScriptedPeer, handler: Handler, version: str = "v2") -> None:
    """Let the peer answer whatever invite comes."""

    def found(request: web.Request) -> Handler | None:
        is_invite = request.method == "PUT" and request.path.startswith(f"/_matrix/federation/{version}/invite/")
        return handler if is_invite else default(request)

    default = peer._default
    peer._default = found  # type: ignore[method-assign]


def invited(peer: ScriptedPeer, version: str = "v2") -> list[dict[str, Any]]:
    """The bodies of the invites that the peer got."""
    start = f"/_matrix/federation/{version}/invite/"
    return [request.content for request in peer.requests if request.target.startswith(start)]


def member_event(server: LiveServer, token: str, room_id: str, user_id: str) -> dict[str, Any] | None:
    """The member event that one of our users sees, with all that clients are shown."""
    path = f"/rooms/{quoted(room_id)}/state"
    status, events = server.call("GET", path, token=token)
    assert status == 200, events
    found = [event for event in events if event["type"] == "m.room.member" and event["state_key"] == user_id]
    return found[0] if found else None


def parsed(pdu: dict[str, Any], version: str) -> Event:
    """The event of a PDU."""
    return parse_event(pdu, ROOM_VERSIONS[version])

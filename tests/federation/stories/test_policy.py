"""A room with a policy server, of which both are members: each asks it about its own events, and honours what the other
has been given.

Synapse is no policy server, so one is scripted: a third server with a user in the room, which signs all but spam.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from annals.federation.client import FederationClient
from annals.matrix.building import build_event
from annals.matrix.policy_servers import KEY_ID
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import SigningKey, sign_event
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import Sides, membership, shared_room, told, waits_to_see
from tests.support.matrix_client import Client, quote
from tests.support.patience import PATIENCE_S
from tests.support.policed_rooms import POLICY, POLICY_KEY, content_of
from tests.support.scripted_peer import Authority, Handler, ScriptedPeer, a_client, reference_key
from tests.support.waiting import until

T = TypeVar("T")
SIGN = "/_matrix/policy/v1/sign"
_SEED = b"\5" * 32
_FEDERATION = "/_matrix/federation"


class PolicyServer:
    """The scripted server, on a loop of its own."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self._authority, self._loop = authority, asyncio.new_event_loop()
        self.version = ""
        self._thread = threading.Thread(target=self._loop.run_forever, name="policy server", daemon=True)
        self._thread.start()
        self._peer = self._on_loop(self._begin(folder))

    @property
    def name(self) -> str:
        """Its server name."""
        return self._peer.name

    def asked(self) -> set[tuple[str, str]]:
        """Who asked it about which texts."""
        asked = self._peer.asked(SIGN)
        return {(_origin(request.headers), str(request.content["content"].get("body"))) for request in asked}

    def join(self, room_id: str, version: str, server: Homeserver) -> str:
        """Let a user of it join a room by way of a server; the user's id. It signs by the rules of this room."""
        self.version = version
        return self._on_loop(self._join(room_id, server.name))

    def close(self) -> None:
        """End it."""
        self._on_loop(self._peer.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _begin(self, folder: Path) -> ScriptedPeer:
        peer = ScriptedPeer(self._authority, folder, "localhost")
        peer.keys, peer.now_ms = [reference_key("a_1", _SEED)], _now_ms
        peer.on("POST", SIGN, self._sign)
        default = peer._default

        def takes_all(request: web.Request) -> Handler | None:
            return _taken if request.path.startswith(f"{_FEDERATION}/v1/send/") else default(request)

        peer._default = takes_all  # type: ignore[method-assign]
        return await peer.__aenter__()

    async def _sign(self, request: web.Request) -> web.StreamResponse:
        pdu = await request.json()
        if "spam" in str(pdu["content"]):
            return web.json_response({"errcode": "M_FORBIDDEN", "error": "spam"}, status=400)
        signed = sign_event(pdu, ROOM_VERSIONS[self.version], self.name, POLICY_KEY)
        return web.json_response({self.name: {KEY_ID: signed["signatures"][self.name][KEY_ID]}})

    async def _join(self, room_id: str, server: str) -> str:
        key, user_id = SigningKey("ed25519:a_1", _SEED), f"@policy:{self.name}"
        async with a_client(self._authority, server_name=self.name, key=key, now_ms=_now_ms) as client:
            return await _joined(client, key, room_id, user_id, server, self.version)


async def _joined(
    client: FederationClient, key: SigningKey, room_id: str, user_id: str, server: str, version: str
) -> str:
    make = f"{_FEDERATION}/v1/make_join/{quote(room_id)}/{quote(user_id)}"
    template = (await client.get(server, make, [("ver", version)]))["event"]
    event = build_event(
        ROOM_VERSIONS[version],
        room_id=room_id,
        sender=user_id,
        type="m.room.member",
        content=template["content"],
        state_key=user_id,
        prev_events=template["prev_events"],
        auth_events=template["auth_events"],
        depth=template["depth"],
        origin_server_ts=_now_ms(),
        server_name=user_id.partition(":")[2],
        key=key,
    )
    send = f"{_FEDERATION}/v2/send_join/{quote(room_id)}/{quote(event.event_id)}"
    await client.put(server, send, event.pdu)
    return user_id


def _origin(headers: dict[str, str]) -> str:
    [found] = re.findall(r'origin="?([^",]+)', headers["Authorization"])
    return str(found)


async def _taken(_: web.Request) -> web.StreamResponse:
    return web.json_response({"pdus": {}})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def policy(authority: Authority, tmp_path: Path) -> Iterator[PolicyServer]:
    """The policy server, running."""
    server = PolicyServer(authority, tmp_path)
    yield server
    server.close()


def _tries(person: Client, room_id: str, text: str) -> tuple[int, dict[str, Any]]:
    path = f"/rooms/{quote(room_id)}/send/m.room.message/{quote(text)}"
    return person.call("PUT", path, {"msgtype": "m.text", "body": text})


# In versions 1 and 2 events are cited with their hashes, which the scripted server does not make.
@told(since=3)
def test_both_ask_for_their_own_and_honour_the_other(sides: Sides, policy: PolicyServer, version: str) -> None:
    ann, bob, room_id = shared_room(sides, version)
    member = policy.join(room_id, version, sides.here)
    until(lambda: membership(bob, room_id, member) == "join", "bob's server knows of the policy server's user")
    waits_to_see(bob, room_id, ann.set_state(room_id, POLICY, content_of(policy.name)))
    assert policy.asked() == set(), "never about the event that names it"
    hers, his = ann.say(room_id, "hello from here"), bob.say(room_id, "hello from there")
    waits_to_see(ann, room_id, hers, his)
    waits_to_see(bob, room_id, hers, his)
    # By its own server, and never by the other, which found the signature in the event.
    assert policy.asked() == {(sides.here.name, "hello from here"), (sides.there.name, "hello from there")}
    for person in (ann, bob):
        status, answer = _tries(person, room_id, f"spam of {person.user_id}")
        assert (status, answer["errcode"]) in ((400, "M_FORBIDDEN"), (403, "M_FORBIDDEN"))
    last = [person.say(room_id, "afterwards") for person in (ann, bob)]
    for person in (ann, bob):
        waits_to_see(person, room_id, *last)
        assert not any("spam" in str(event["content"]) for event in person.history(room_id))

"""Another server beside a whole server of ours: it joins rooms through us and keeps every transaction that it is put.

with RecordingPeer(authority, folder) as peer:
    peer.join(port, server_name, room_id)           # make_join, send_join
    event_id in peer.event_ids()
"""

from __future__ import annotations

import asyncio
import http.client
import json
import secrets
import threading
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from aiohttp import web

from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.events import Event, parse_event
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.signing import SigningKey
from annals.matrix.x_matrix import authorization
from tests.support.handing_in import ALL_VERSIONS, FEDERATION, signed
from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import LOOPBACK, Authority, Handler, ScriptedPeer, reference_key

_SEND = f"{FEDERATION}/v1/send/"


class _Peer(ScriptedPeer):
    def __init__(self, authority: Authority, folder: Path, seed: bytes) -> None:
        super().__init__(authority, folder, host=LOOPBACK)
        self.keys = [reference_key("a_1", seed)]
        self.now_ms = lambda: time.time_ns() // 1_000_000
        self.taken: list[dict[str, Any]] = []
        self.tries: list[str] = []
        self.refuses = False

    def _default(self, request: web.Request) -> Handler | None:
        return self._take if request.path.startswith(_SEND) else super()._default(request)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.tries.append(request.path)
        if self.refuses:
            return web.json_response({}, status=500)
        self.taken.append(await request.json())
        return web.json_response({"pdus": {}})


class RecordingPeer:
    """See above. `name` is an address, so that no name has to be looked up."""

    def __init__(self, authority: Authority, folder: Path, version: str = "12") -> None:
        seed = secrets.token_bytes(32)
        self.key = SigningKey("ed25519:a_1", seed)
        self.rules = ROOM_VERSIONS[version]
        self._peer = _Peer(authority, folder, seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._peer.__aenter__(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._peer.__aexit__(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def name(self) -> str:
        """Its server name."""
        return self._peer.name

    def refuse(self, *, refuses: bool) -> None:
        """Answer transactions with 500, or take them again."""
        self._peer.refuses = refuses

    def hold(self) -> None:
        """Answer nothing until `go_on`."""
        self._loop.call_soon_threadsafe(self._peer.gate.clear)

    def go_on(self) -> None:
        """Answer again."""
        self._loop.call_soon_threadsafe(self._peer.gate.set)

    @property
    def tries(self) -> int:
        """Transactions that came and were looked at, taken or not."""
        return len(self._peer.tries)

    @property
    def asked(self) -> int:
        """Requests of any kind, answered or not."""
        return len(self._peer.requests)

    def event_ids(self) -> list[str]:
        """The events that it was sent, in order."""
        return [parse_event(pdu, self.rules).event_id for taken in list(self._peer.taken) for pdu in taken["pdus"]]

    def request(self, port: int, destination: str, method: str, path: str, content: Any = None) -> Any:
        """The JSON answer to a signed request to our server, which must be 200."""
        headers = {"Authorization": authorization(self.name, destination, self.key, method, path, content)}
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, None if content is None else canonical_bytes(content), headers)
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, (response.status, body[:500])
            return json.loads(body)
        finally:
            connection.close()

    def join(self, port: int, destination: str, room_id: str, localpart: str = "bob") -> Event:
        """Let a user of this server join."""
        user_id = f"@{localpart}:{self.name}"
        path = f"{FEDERATION}/v1/make_join/{quote(room_id, safe='')}/{quote(user_id, safe='')}?{ALL_VERSIONS}"
        event = signed(self, self.request(port, destination, "GET", path))  # type: ignore[arg-type]
        path = f"{FEDERATION}/v2/send_join/{quote(room_id, safe='')}/{quote(event.event_id, safe='')}"
        self.request(port, destination, "PUT", path, event.pdu)
        return event

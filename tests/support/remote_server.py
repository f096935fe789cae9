"""Another homeserver, played against a LiveServer: it signs requests and events, and builds on what our rooms hold.

    remote = RemoteServer(server)
    bob = remote.user("bob")
    remote.join(room_id, bob)
    event = remote.build(room_id, bob, "m.room.message", {"body": "hello"})
    status, answer = remote.send([event.pdu])

No network: its keys are put on the log, as if they had been fetched.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence
from typing import Any

import httpx

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.ingest.key_store import FetchedKeys
from annals.matrix.auth_events import auth_types_for
from annals.matrix.building import build_event
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.errors import MatrixError
from annals.matrix.events import Event, StateKey
from annals.matrix.hashing import content_hash
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.server_keys import read_server_keys
from annals.matrix.signing import SigningKey, sign_event, sign_json
from annals.matrix.x_matrix import authorization
from annals.schemas.facts.servers import ServerKeysFetched
from tests.support.patience import PATIENCE_S
from tests.support.server import SERVER_NAME, LiveServer
from tests.support.waiting import until

_names = itertools.count(1)
DEPTH_MAX = 2**53 - 1
DAY_MS = 24 * 3600 * 1000


def now_ms() -> int:
    """The time, as our server has it."""
    return time.time_ns() // 1_000_000


class RemoteServer:
    """One other server. `has_keys` False: nobody can get them."""

    def __init__(self, server: LiveServer, name: str | None = None, *, has_keys: bool = True) -> None:
        self.server = server
        self.name = name or f"remote{next(_names)}.invalid"
        self.key = SigningKey("ed25519:r_1", secrets.token_bytes(32))
        self._numbers = itertools.count(1)
        if has_keys:
            self.publish_keys()

    def publish_keys(self, valid_for_ms: int = DAY_MS) -> None:
        """Let our server know this one's keys."""
        found, appender = self.key_answer_fetched(valid_for_ms), self.server.house.appender
        fact = ServerKeysFetched(appender.envelope(), self.name, self.name, found.fetched_at_ms, found.answer)
        self.server.on_loop(appender.submit_and_settle([fact], PATIENCE_S))

    def key_answer_fetched(self, valid_for_ms: int = DAY_MS) -> FetchedKeys:
        """What this server publishes at /_matrix/key/v2/server, as if it had been fetched now."""
        at_ms = now_ms()
        answer: dict[str, Any] = {
            "server_name": self.name,
            "verify_keys": {self.key.key_id: {"key": self.key.verify_key.base64}},
            "old_verify_keys": {},
            "valid_until_ts": at_ms + valid_for_ms,
        }
        signed = sign_json(answer, self.name, self.key)
        return FetchedKeys(read_server_keys(signed), self.name, at_ms, canonical_bytes(signed))

    def user(self, name: str = "user") -> str:
        """The id of a user of this server."""
        return f"@{name}{next(self._numbers)}:{self.name}"

    def request(self, method: str, path: str, content: dict[str, Any] | None = None, **claims: Any) -> httpx.Response:
        """A signed request to our server; `claims` replace what the signature is over (origin, destination, key …)."""
        signed: dict[str, Any] = {
            "origin": self.name,
            "destination": SERVER_NAME,
            "key": self.key,
            "method": method,
            "target": path,
            "content": content,
            **claims,
        }
        headers = {"Authorization": authorization(**signed)}
        # Not as JSON of the client's own making: what is signed is this.
        body = None if content is None else canonical_bytes(content)
        transport = httpx.ASGITransport(app=self.server.app)

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=PATIENCE_S) as client:
                return await client.request(method, path, content=body, headers=headers)

        return self.server.on_loop(ask())

    def call(self, method: str, path: str, content: dict[str, Any] | None = None, **claims: Any) -> tuple[int, Any]:
        """(status, JSON) of such a request."""
        response = self.request(method, path, content, **claims)
        return response.status_code, response.json() if response.content else None

    def send(
        self, pdus: Sequence[Any] = (), edus: Sequence[Any] = (), transaction_id: str | None = None
    ) -> tuple[int, Any]:
        """A transaction."""
        transaction_id = transaction_id or f"{now_ms()}-{next(self._numbers)}"
        content = {"origin": self.name, "origin_server_ts": now_ms(), "pdus": list(pdus), "edus": list(edus)}
        return self.call("PUT", f"/_matrix/federation/v1/send/{transaction_id}", content)

    def push(self, *events: Event) -> None:
        """Send events that must be taken, and wait until our tables have them."""
        status, answer = self.send([event.pdu for event in events])
        assert status == 200, answer
        assert answer == {"pdus": {event.event_id: {} for event in events}}
        for event in events:
            self.wait_for(event)

    def wait_for(self, event: Event) -> str:
        """The verdict on an event, once there is one."""
        room_id, event_id = event.room_id, event.event_id
        return str(until(lambda: verdict(self.server, room_id, event_id), f"a verdict on {event.type}"))

    def join(self, room_id: str, user_id: str) -> Event:
        """Let a user of this server join a public room, by a transaction as any other."""
        event = self.build(room_id, user_id, "m.room.member", {"membership": "join"}, user_id)
        self.push(event)
        assert verdict(self.server, room_id, event.event_id) == "accepted"
        return event

    def build(
        self,
        room_id: str,
        sender: str,
        event_type: str,
        content: dict[str, Any],
        state_key: str | None = None,
        **changes: Any,
    ) -> Event:
        """An event upon the room as our tables have it now. `changes`: prev_events, auth_events, depth, key …"""
        version, heads, depth, state = room_as_it_is(self.server, room_id)
        keys = auth_types_for(event_type, sender, state_key, content, ROOM_VERSIONS[version])
        given: dict[str, Any] = {
            "room_id": room_id,
            "sender": sender,
            "type": event_type,
            "content": content,
            "state_key": state_key,
            "prev_events": heads,
            "auth_events": [state[key] for key in keys if key in state],
            "depth": min(depth + 1, DEPTH_MAX),
            "origin_server_ts": now_ms(),
            "server_name": sender.partition(":")[2],
            "key": self.key,
        }
        given |= changes
        # Versions 1 and 2 name hashes beside ids, which nobody checks.
        hashes = dict.fromkeys([*given["prev_events"], *given["auth_events"]], "A" * 43)
        return build_event(ROOM_VERSIONS[version], reference_hashes=hashes, **given)

    def signed(self, pdu: Any, version: str) -> Any:
        """A PDU that was changed, with good hashes and a good signature of this server, as far as it can have them."""
        rules = ROOM_VERSIONS[version]
        try:
            hashed = {**pdu, "hashes": {"sha256": content_hash(pdu, rules)}}
            return sign_event({**hashed, "signatures": {}}, rules, self.name, self.key)
        except (MatrixError, TypeError, KeyError, AttributeError, ValueError):
            return pdu

    def chain(self, room_id: str, sender: str, texts: Sequence[str]) -> list[Event]:
        """Messages, each upon the one before."""
        events: list[Event] = []
        for text in texts:
            upon: dict[str, Any] = {}
            if events:
                upon = {"prev_events": [events[-1].event_id], "depth": min(events[-1].depth + 1, DEPTH_MAX)}
            events.append(self.build(room_id, sender, "m.room.message", {"msgtype": "m.text", "body": text}, **upon))
        return events


def verdict(server: LiveServer, room_id: str, event_id: str) -> str | None:
    """What was decided of an event; None while nothing was."""

    def read(snapshot: Snapshot) -> str | None:
        row = snapshot.one("SELECT verdict FROM events WHERE room_id = %s AND event_id = %s", (room_id, event_id))
        return row[0] if row else None

    return server.on_loop(server.database.read(read))


def room_as_it_is(server: LiveServer, room_id: str) -> tuple[str, list[str], int, dict[StateKey, str]]:
    """A room's version, its heads, the greatest depth of them, and its current state's event ids."""

    def read(snapshot: Snapshot) -> tuple[str, list[str], int, dict[StateKey, str]]:
        [(version,)] = snapshot.rows("SELECT room_version FROM rooms WHERE room_id = %s", (room_id,))
        heads = snapshot.rows(
            "SELECT e.event_id, e.depth FROM forward_extremities f"
            " JOIN events e ON e.room_id = f.room_id AND e.event_id = f.event_id WHERE f.room_id = %s",
            (room_id,),
        )
        state = snapshot.rows("SELECT type, state_key, event_id FROM current_state WHERE room_id = %s", (room_id,))
        found = {(restore(event_type), restore(state_key)): event_id for event_type, state_key, event_id in state}
        return version, sorted(head for head, _ in heads)[:10], max(depth for _, depth in heads), found

    return server.on_loop(server.database.read(read))

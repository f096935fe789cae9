"""What the generator's users do: the few calls of the client API that the works are made of."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from benchmarks.http_client import Connection

PASSWORD = "correct horse battery staple"
CLIENT = "/_matrix/client/v3"
TEXT = "The quick brown fox jumps over the lazy dog, again and again."
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Account:
    """A user, and the access token of one device."""

    name: str
    token: str


class User:
    """One device and its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Other processes send with the same token.
        self._run = secrets.token_hex(4)

    @classmethod
    async def open(cls, url: str, account: Account) -> User:
        return cls(await Connection.open(url, account.token))

    def close(self) -> None:
        self._connection.close()

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The parsed answer; `path` comes after /_matrix/client/v3."""
        return orjson.loads(await self._connection.request(method, CLIENT + path, body))

    async def send(self, room_id: str) -> str:
        """Send a message; its event id."""
        path = f"/rooms/{quote(room_id)}/send/m.room.message/{self._run}{next(_NUMBERS)}"
        event_id: str = (await self.call("PUT", path, {"msgtype": "m.text", "body": TEXT}))["event_id"]
        return event_id

    async def create_room(self, name: str, version: str) -> str:
        """Create a room that everybody may join; its id."""
        body = {"preset": "public_chat", "name": name, "room_version": version}
        room_id: str = (await self.call("POST", "/createRoom", body))["room_id"]
        return room_id

    async def join(self, room_id: str) -> None:
        await self.call("POST", f"/join/{quote(room_id)}", {})

    async def sync_bytes(self, since: str | None = None, timeout_ms: int = 0) -> bytes:
        """The body of a /sync, not parsed."""
        after = "" if since is None else f"&since={quote(since)}"
        return await self._connection.request("GET", f"{CLIENT}/sync?timeout={timeout_ms}{after}")


async def register(url: str, name: str) -> Account:
    """Register a user."""
    body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    return Account(name, await _token(url, "/register", body))


async def log_in(url: str, name: str) -> Account:
    """A new device of a user."""
    body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}, "password": PASSWORD}
    return Account(name, await _token(url, "/login", body))


async def _token(url: str, path: str, body: Mapping[str, object]) -> str:
    async with await Connection.open(url) as connection:
        token: str = orjson.loads(await connection.request("POST", CLIENT + path, body))["access_token"]
        return token

"""A whole server in this process: log, tables, projectors in a thread, the application on an event loop of its own.

What runs is what `annals serve` runs, put together by the same code; only the sockets are missing. The tests of a
module share one server: let each register users of its own (`server.user()`).

    def test_x(server: LiveServer) -> None:
        alice = server.user()
        room = alice.create_room(preset="public_chat")
        status, answer = alice.call("PUT", f"/rooms/{quoted(room)}/send/m.room.message/1", {"body": "x"})
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI

from annals.api.app import make_app
from annals.api.services import Services
from annals.commands.accounts import Accounts
from annals.commands.passwords import Passwords
from annals.commands.subject_keys import SubjectKeys
from annals.database.pool import Database
from annals.projectors.runner import run
from annals.server import keys
from annals.server.api_role import make_services
from annals.server.config import Config
from annals.server.ephemeral_tail import EphemeralTail
from annals.server.house import House, open_house
from annals.server.log_setup import init_log
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until

T = TypeVar("T")
SERVER_NAME = "test"
CLIENT = "/_matrix/client/v3"
#: Argon2 as cheap as it can be.
_CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
#: Longer than anything that the server itself waits for.
_ANSWER_S = PATIENCE_S + 60.0


def quoted(part: str) -> str:
    """One segment of a path."""
    return quote(part, safe="")


class LiveServer:
    """Make it with `live_server`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test server", daemon=True)
        self._stop_projectors = threading.Event()
        self._projectors: threading.Thread | None = None
        self._numbers = itertools.count(1)
        self.house: House
        self.services: Services
        self.app: FastAPI
        self._tail: EphemeralTail
        self._desk: asyncio.Task[None]
        self._client: httpx.AsyncClient

    def start(self) -> None:
        """Open everything. The tables must be there."""
        keys.prepare(self.config)
        self._thread.start()
        self.on_loop(self._open())
        self._projectors = threading.Thread(target=self._project, name="test projectors", daemon=True)
        self._projectors.start()
        until(self.house.serving, "the tables to catch up")

    def close(self) -> None:
        """Let go of everything."""
        self.on_loop(self._close())
        self._stop_projectors.set()
        if self._projectors is not None:
            self._projectors.join(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)

    @property
    def database(self) -> Database:
        """For tests that read tables."""
        return self.house.database

    def on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's event loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_ANSWER_S)

    async def _open(self) -> None:
        self.house = await open_house(self.config, "api")
        services, ephemerals = make_services(self.config, self.house)
        self.services = _with_cheap_passwords(services, self.house, self.config)
        self._tail = EphemeralTail(self.house.log, ephemerals, self.house.database)
        self._desk = asyncio.create_task(services.presence.run())
        self.app = make_app(self.services)
        transport = httpx.ASGITransport(app=self.app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=_ANSWER_S)

    async def _close(self) -> None:
        self.services.stopping.set()
        await self._client.aclose()
        self._desk.cancel()
        await asyncio.to_thread(self._tail.close)
        await self.services.receiver.close()
        # The log stays open for the projectors, which end later.
        await self.house.peers.close()
        await self.house.reached.close()
        self.house.database.close()

    def _project(self) -> None:
        url = self.config.database_url
        assert url is not None
        try:
            run(self.house.log, url.get_secret_value(), "g1", self.config.server_name, self._stop_projectors)
        finally:
            self.house.log.close()

    def request(
        self, method: str, path: str, body: Any = None, token: str | None = None, **more: Any
    ) -> httpx.Response:
        """One request; `path` as on the wire. `more`: `content` for a body that is not JSON, `params` …"""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            more["json"] = body
        return self.on_loop(self._client.request(method, path, headers=headers, **more))

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, **more: Any) -> tuple[int, Any]:
        """(status, JSON) of one request; a path without /_matrix is one of the client-server API, v3."""
        response = self.request(method, path if path.startswith("/_matrix") else CLIENT + path, body, token, **more)
        return response.status_code, response.json() if response.content else None

    def calls(self, requests: Sequence[tuple[str, str, Any, str]]) -> list[tuple[int, Any]]:
        """Many requests at once: (method, path under CLIENT, body, token) each."""

        async def one(method: str, path: str, body: Any, token: str) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token}"}
            response = await self._client.request(method, CLIENT + path, json=body, headers=headers)
            return response.status_code, response.json()

        async def all_of_them() -> list[tuple[int, Any]]:
            return list(await asyncio.gather(*(one(*request) for request in requests)))

        return self.on_loop(all_of_them())

    def user(self, name: str = "user") -> User:
        """A new user, logged in."""
        username = f"{name}{next(self._numbers)}"
        body = {"username": username, "password": "a long password", "auth": {"type": "m.login.dummy"}}
        status, answer = self.call("POST", "/register", body)
        assert status == 200, answer
        return User(self, answer["user_id"], answer["access_token"], answer["device_id"])


@dataclass(frozen=True)
class User:
    """A user of a server, with what tests do most often; each asserts that it succeeds."""

    server: LiveServer
    id: str
    token: str
    device_id: str

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """(status, JSON) of one request of this user."""
        return self.server.call(method, path, body, self.token, **more)

    def do(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON of a request that must succeed."""
        status, answer = self.call(method, path, body, **more)
        assert status == 200, (method, path, status, answer)
        return answer

    def create_room(self, **fields: Any) -> str:
        """Make a room; its id."""
        return str(self.do("POST", "/createRoom", fields)["room_id"])

    def join(self, room_id: str) -> None:
        """Join a room."""
        self.do("POST", f"/rooms/{quoted(room_id)}/join", {})

    def leave(self, room_id: str) -> None:
        """Leave a room."""
        self.do("POST", f"/rooms/{quoted(room_id)}/leave", {})

    def say(
        self, room_id: str, text: str, transaction_id: str | None = None, content: dict[str, Any] | None = None
    ) -> str:
        """Send a message; its event id."""
        transaction_id = transaction_id or f"say-{text[:40]}"
        path = f"/rooms/{quoted(room_id)}/send/m.room.message/{quoted(transaction_id)}"
        return str(self.do("PUT", path, {"msgtype": "m.text", "body": text, **(content or {})})["event_id"])

    def say_many(self, room_id: str, texts: Sequence[str]) -> None:
        """Send messages, all at once; they may get another order."""
        requests = [
            ("PUT", f"/rooms/{quoted(room_id)}/send/m.room.message/many-{quoted(text)}", {"body": text}, self.token)
            for text in texts
        ]
        assert {status for status, _ in self.server.calls(requests)} == {200}

    def set_state(self, room_id: str, event_type: str, content: dict[str, Any], state_key: str = "") -> str:
        """Send a state event; its event id."""
        path = f"/rooms/{quoted(room_id)}/state/{quoted(event_type)}/{quoted(state_key)}"
        return str(self.do("PUT", path, content)["event_id"])

    def messages(self, room_id: str, **params: Any) -> dict[str, Any]:
        """A page of messages; backwards from the newest one, where nothing else is said."""
        answer = self.do("GET", f"/rooms/{quoted(room_id)}/messages", params={"dir": "b", "limit": 100, **params})
        assert isinstance(answer, dict)
        return answer

    def sync(self, since: str | None = None, **params: Any) -> dict[str, Any]:
        """A sync; nobody is online by it, unless it says so."""
        asked = {"set_presence": "offline", **({"since": since} if since else {}), **params}
        answer = self.do("GET", "/sync", params=asked)
        assert isinstance(answer, dict)
        return answer


def bodies(events: list[dict[str, Any]]) -> list[str]:
    """What the messages among these events say."""
    return [event["content"]["body"] for event in events if "body" in event["content"]]


@contextmanager
def live_server(url: str, directory: Path, **settings: Any) -> Iterator[LiveServer]:
    """A server over the migrated database at `url`, its log in `directory`."""
    config = Config(
        **{
            "server_name": SERVER_NAME,
            "data_dir": directory,
            "database_url": url,
            "registration": {"enabled": True},
            "rate_limits": {"enabled": False},
            "starting_wait_s": PATIENCE_S,
            "tables_wait_s": PATIENCE_S,
            **settings,
        }
    )
    if config.log_backend == "kafka":
        init_log(config).log.close()
        keys.prepare(config, log_is_new=True)
    server = LiveServer(config)
    server.start()
    try:
        yield server
    finally:
        server.close()


def _with_cheap_passwords(services: Services, house: House, config: Config) -> Services:
    subject_keys = SubjectKeys(house.appender, house.database, keys.load_master_key(config.master_key_path))
    accounts = Accounts(house.appender, house.database, subject_keys, Passwords(_CHEAP), config.server_name)
    return replace(services, accounts=accounts)

"""People with a real client (matrix-nio), for stories told on a running server.

async with people(server, "alice", "bob") as (alice, bob):
    room_id = await alice.create()
    await bob.joins(room_id)
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import nio  # type: ignore[import-untyped]

from tests.support.patience import PATIENCE_S
from tests.support.servers import Serve

PASSWORD = "long enough password"
_numbers = itertools.count(1)
Answer = TypeVar("Answer", bound=nio.Response)


def ok(answer: Any, kind: type[Answer]) -> Answer:
    """The answer, which is of the kind that says that it worked."""
    assert isinstance(answer, kind), answer
    return answer


class Person:
    """Somebody with an account and a client. `client` is the real one."""

    def __init__(self, base_url: str, name: str) -> None:
        patience = {"request_timeout": PATIENCE_S, "max_timeouts": 1, "max_limit_exceeded": 1}
        config = nio.AsyncClientConfig(encryption_enabled=False, **patience)
        self.client = nio.AsyncClient(base_url, name, config=config)
        self.name = name

    @property
    def user_id(self) -> str:
        """The full id."""
        return str(self.client.user_id)

    async def register(self) -> None:
        """Make the account."""
        ok(await self.client.register(self.name, PASSWORD), nio.RegisterResponse)

    async def create(self, **more: Any) -> str:
        """Make a room; its id."""
        return str(ok(await self.client.room_create(**more), nio.RoomCreateResponse).room_id)

    async def joins(self, room_id: str) -> None:
        """Join a room."""
        ok(await self.client.join(room_id), nio.JoinResponse)

    async def says(self, room_id: str, body: str, txn: str | None = None) -> str:
        """Send a message; its event id."""
        content = {"msgtype": "m.text", "body": body}
        sent = await self.client.room_send(room_id, "m.room.message", content, tx_id=txn)
        return str(ok(sent, nio.RoomSendResponse).event_id)

    async def sync(self, since: str | None = None, timeout_ms: int = 0, **more: Any) -> nio.SyncResponse:
        """One /sync; the client goes on from its own last one unless `since` is given."""
        asked: dict[str, Any] = {"set_presence": "offline", **more}
        return ok(await self.client.sync(timeout=timeout_ms, since=since, **asked), nio.SyncResponse)

    async def hears(self, room_id: str) -> list[str]:
        """Bodies of the messages that are new to this client."""
        answer = await self.sync()
        return bodies(answer, room_id)

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """(status, JSON) of a request that the client has no method for."""
        url = f"{self.client.homeserver}/_matrix/client/v3{path}"
        headers = {"Authorization": f"Bearer {self.client.access_token}"}
        assert self.client.client_session is not None
        async with self.client.client_session.request(
            method, url, json=body, params=query, headers=headers
        ) as response:
            return response.status, await response.json()


def bodies(answer: nio.SyncResponse, room_id: str) -> list[str]:
    """Bodies of the messages in a room's timeline."""
    shown = answer.rooms.join.get(room_id)
    return [event.body for event in shown.timeline.events if isinstance(event, nio.RoomMessageText)] if shown else []


@asynccontextmanager
async def people(server: Serve, *names: str) -> AsyncIterator[tuple[Person, ...]]:
    """People with new accounts, named after `names`."""
    base_url = f"http://127.0.0.1:{server.port}"
    everybody = tuple(Person(base_url, f"{name}{next(_numbers)}") for name in names)
    try:
        for person in everybody:
            await person.register()
        yield everybody
    finally:
        for person in everybody:
            await person.client.close()

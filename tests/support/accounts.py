"""Users of a running server, by plain HTTP: for tests that look at single answers rather than tell stories.

alice = Account.new(server.port, "alice")
room_id = alice.create(preset="public_chat")
status, answer = alice.call("GET", f"/rooms/{room_id}/messages", dir="b")
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.patience import PATIENCE_S

PASSWORD = "long enough password"
_numbers = itertools.count(1)


@dataclass
class Account:
    """A logged-in user. `home`: where the client API is."""

    home: httpx.Client
    user_id: str
    token: str | None

    @classmethod
    def new(cls, port: int, name: str) -> Account:
        """Register a user with a name like `name`."""
        # Without certificates, which take 50 ms to read.
        home = httpx.Client(base_url=f"http://127.0.0.1:{port}/_matrix/client/v3", timeout=PATIENCE_S, verify=False)
        body = {
            "username": f"{name}-{next(_numbers)}",
            "password": PASSWORD,
            "auth": {"type": "m.login.dummy"},
        }
        answer = home.post("/register", json=body).json()
        return cls(home, answer["user_id"], answer["access_token"])

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
        """(status, JSON) of one request."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        response = self.home.request(method, path, json=body, params=query or None, headers=headers)
        return response.status_code, response.json()

    def done(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer of a request that must work."""
        status, answer = self.call(method, path, body, **query)
        assert status == 200, (method, path, answer)
        return answer

    def create(self, **body: Any) -> str:
        """Make a room; its id."""
        return str(self.done("POST", "/createRoom", body)["room_id"])

    def member(self, room_id: str, action: str, target: Account | None = None) -> None:
        """join, leave, knock; or invite, kick, ban, unban somebody."""
        body = {"user_id": target.user_id} if target else {}
        self.done("POST", f"/rooms/{quote(room_id)}/{action}", body)

    def say(self, room_id: str, body: str) -> str:
        """Send a message; its id."""
        content = {"msgtype": "m.text", "body": body}
        path = f"/rooms/{quote(room_id)}/send/m.room.message/{next(_numbers)}"
        return str(self.done("PUT", path, content)["event_id"])

    def put_state(self, room_id: str, event_type: str, content: Mapping[str, Any], state_key: str = "") -> str:
        """Send a state event; its id."""
        path = f"/rooms/{quote(room_id)}/state/{event_type}/{quote(state_key)}"
        return str(self.done("PUT", path, content)["event_id"])

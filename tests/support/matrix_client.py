"""A small, blocking client of the client-server API, for tests that need threads, kills and exact statuses.

client = register(port, "ann")
room_id = client.create_room(preset="public_chat", room_version="11")
event_id = client.say(room_id, "hello")                    # AssertionError when not answered with 200
status, body = client.call("GET", "/sync")                 # any status; OSError when nobody answers
event_id = client.say(room_id, "hello", txn="t1", patient=True)   # over 503 and lost connections, with the same id
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote as _quote
from urllib.parse import urlencode

from tests.support.patience import PATIENCE_S

BASE = "/_matrix/client/v3"
_PAUSE_S = 0.05
PASSWORD = "correct horse battery staple"

_numbers = itertools.count(1)


def quote(part: str) -> str:
    """One segment of a path: event ids of version 3 have slashes."""
    return _quote(part, safe="")


class Unexpected(AssertionError):
    """An answer that the test did not expect."""

    def __init__(self, method: str, path: str, status: int, body: Any) -> None:
        super().__init__(f"{method} {path}: {status} {body}")
        self.status, self.body = status, body


@dataclass(slots=True)
class Client:
    """One user on one device, at the client listener on `port` of loopback. Used by one thread at a time."""

    port: int
    user_id: str = ""
    token: str | None = None
    device_id: str = ""
    timeout_s: float = PATIENCE_S
    #: every status that was answered, in order; 0 where nobody answered
    seen: list[int] = field(default_factory=list)
    #: set by who no longer asks for what comes of it: patience ends
    given_up: threading.Event = field(default_factory=threading.Event)

    def call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer. `path`: below /_matrix/client/v3, or whole. OSError when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)
        target = (path if path.startswith("/_matrix") else BASE + path) + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.seen.append(0)
            raise OSError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        self.seen.append(response.status)
        return response.status, json.loads(text) if text else {}

    def ok(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        *,
        patient: bool = False,
    ) -> dict[str, Any]:
        """The JSON of a 200. `patient`: again after 503, 504 and a lost connection, as clients do."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                status, answer = self.call(method, path, body, query)
            except OSError:
                if not patient or time.monotonic() > deadline_s or self.given_up.wait(_PAUSE_S):
                    raise
                continue
            if status == 200:
                return answer
            if not patient or status not in (503, 504) or time.monotonic() > deadline_s or self.given_up.wait(_PAUSE_S):
                raise Unexpected(method, path, status, answer)

    # -- rooms

    def create_room(self, **body: Any) -> str:
        """The id of a new room."""
        room_id: str = self.ok("POST", "/createRoom", body)["room_id"]
        return room_id

    def room(self, room_id: str, verb: str, **body: Any) -> dict[str, Any]:
        """join, leave, invite, kick, ban, unban, forget, ..."""
        return self.ok("POST", f"/rooms/{quote(room_id)}/{verb}", body)

    def send(self, room_id: str, type: str, content: Any, txn: str | None = None, *, patient: bool = False) -> str:
        """Send an event; its id."""
        txn = txn or f"t{next(_numbers)}"
        path = f"/rooms/{quote(room_id)}/send/{quote(type)}/{quote(txn)}"
        event_id: str = self.ok("PUT", path, content, patient=patient)["event_id"]
        return event_id

    def say(self, room_id: str, text: str, txn: str | None = None, *, patient: bool = False) -> str:
        """Send a text; the event's id."""
        return self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": text}, txn, patient=patient)

    def redact(self, room_id: str, event_id: str, txn: str | None = None) -> str:
        """Redact an event; the redaction's id."""
        path = f"/rooms/{quote(room_id)}/redact/{quote(event_id)}/{quote(txn or f't{next(_numbers)}')}"
        redaction: str = self.ok("PUT", path, {"reason": "test"})["event_id"]
        return redaction

    def set_state(self, room_id: str, type: str, content: Any, state_key: str = "") -> str:
        """Send a state event; its id."""
        path = f"/rooms/{quote(room_id)}/state/{quote(type)}/{quote(state_key)}"
        event_id: str = self.ok("PUT", path, content)["event_id"]
        return event_id

    def state(self, room_id: str) -> list[dict[str, Any]]:
        """The room's current state."""
        events: Any = self.ok("GET", f"/rooms/{quote(room_id)}/state")
        return list(events)

    def displayname_in(self, room_id: str) -> str | None:
        """Our display name in the room."""
        path = f"/rooms/{quote(room_id)}/state/m.room.member/{quote(self.user_id)}"
        return self.ok("GET", path, patient=True).get("displayname")

    # -- reading

    def sync(self, since: str | None = None, *, patient: bool = False, **query: Any) -> dict[str, Any]:
        """One /sync; nobody is online by it, unless it says so."""
        asked = {"set_presence": "offline", **({"since": since} if since else {}), **query}
        return self.ok("GET", "/sync", None, asked, patient=patient)

    def history(self, room_id: str) -> list[dict[str, Any]]:
        """All of the room's timeline, newest first, by paging back."""
        events: list[dict[str, Any]] = []
        query = {"dir": "b", "limit": 100}
        while True:
            page = self.ok("GET", f"/rooms/{quote(room_id)}/messages", None, query, patient=True)
            events += page["chunk"]
            if not page.get("end") or not page["chunk"]:
                return events
            query["from"] = page["end"]


def timeline(sync: Mapping[str, Any], room_id: str) -> list[str]:
    """Event ids of a joined room's timeline in an answer of /sync."""
    room = sync.get("rooms", {}).get("join", {}).get(room_id, {})
    return [event["event_id"] for event in room.get("timeline", {}).get("events", [])]


def register(port: int, name: str) -> Client:
    """A new user, logged in."""
    client = Client(port)
    body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    answer = client.ok("POST", "/register", body, patient=True)
    client.user_id, client.token, client.device_id = answer["user_id"], answer["access_token"], answer["device_id"]
    return client


def login(port: int, name: str) -> Client:
    """A further device of a user."""
    client = Client(port)
    identifier = {"type": "m.id.user", "user": name}
    body = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
    answer = client.ok("POST", "/login", body, patient=True)
    client.user_id, client.token, client.device_id = answer["user_id"], answer["access_token"], answer["device_id"]
    return client

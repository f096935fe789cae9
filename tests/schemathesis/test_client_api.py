"""Whatever is sent to the client API: the specification's errors, never a 500, and a server that works on.

Requests are made by schemathesis from a description of the endpoints (tests/support/client_openapi.py), right ones and
wrong ones; then come bodies that are no JSON at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.accounts import Account
from tests.support.client_openapi import description, filled
from tests.support.patience import PATIENCE_S
from tests.support.servers import Serve

SCHEMA = schemathesis.openapi.from_dict(description())
_FOUND: list[Any] = [found.ok() for found in SCHEMA.get_all_operations()]  # type: ignore[union-attr]
OPERATIONS = {f"{operation.method.upper()} {operation.path}": operation for operation in _FOUND}
#: Each of these makes its account's token useless.
LOGOUTS = ("/_matrix/client/v3/logout", "/_matrix/client/v3/logout/all")
#: By the profile: 6, or in a soak 250.
EXAMPLES = settings().max_examples // 4
NO_JSON = [b"", b"{", b"[]", b"null", b"\xff", b'"x"', b"{} {}", b'{"a":NaN}', b'{"a":1e999}', b"[" * 5_000]
NO_JSON += [b'{"a":"\\ud800"}', b'{"a":' + b"9" * 400 + b"}", b'{"a":"\\u0000"}', b'{"body":"' + b"x" * 70_000 + b'"}']


class Target:
    """A user with a room, and another one in it, for requests to name."""

    def __init__(self, server: Serve) -> None:
        self.account = Account.new(server.port, "fuzz")
        self.other = Account.new(server.port, "other")
        self.base_url = f"http://127.0.0.1:{server.port}"
        # Without certificates, which take 50 ms to read.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(base_url=self.base_url, timeout=PATIENCE_S, limits=limits, verify=False)
        self.names: Mapping[str, str] = {}

    def prepare(self, name: str) -> None:
        """A new room with both in it, as what was done to the last one may stand in the way; not for who only reads."""
        if self.names and name.startswith("GET"):
            return
        room_id = self.account.create(preset="public_chat")
        self.other.member(room_id, "join")
        event_id = self.account.say(room_id, "hello")
        page = self.account.done("GET", f"/rooms/{room_id}/messages", dir="b", limit=1)
        made = self.account.done("POST", f"/user/{self.account.user_id}/filter", {"room": {"timeline": {"limit": 2}}})
        self.names = {
            "USER": self.account.user_id,
            "OTHER": self.other.user_id,
            "ROOM": room_id,
            "EVENT": event_id,
            "SINCE": self.account.done("GET", "/sync")["next_batch"],
            "PAGE": page["end"],
            "FILTER": made["filter_id"],
        }

    def check(self, response: Any) -> None:
        """An answer as the specification has it."""
        # 502: another server would have to be asked, and there is none of that name.
        assert response.status_code < 500 or response.status_code == 502, response.content
        answer = response.json()
        if response.status_code < 400:
            # Only the state of a room is a list.
            assert isinstance(answer, dict | list)
            return
        assert isinstance(answer, dict)
        if "flows" not in answer:
            assert isinstance(answer["errcode"], str)
            assert isinstance(answer["error"], str)

    def check_alive(self) -> None:
        """The server still works."""
        assert self.account.done("GET", "/account/whoami")["user_id"] == self.account.user_id


@pytest.fixture(scope="module")
def target(server: Serve) -> Target:
    return Target(server)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_generated_requests(server: Serve, target: Target, name: str) -> None:
    operation = OPERATIONS[name]
    target.prepare(name)
    token = Account.new(server.port, "gone").token if operation.path in LOGOUTS else target.account.token
    headers = {"Authorization": f"Bearer {token}"}
    modes = schemathesis.GenerationMode
    strategies = [operation.as_strategy(generation_mode=mode) for mode in (modes.POSITIVE, modes.NEGATIVE)]

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(strategies[0] | strategies[1])
    def every(case: schemathesis.Case[Any]) -> None:
        case.path_parameters = filled(case.path_parameters, target.names)
        case.query = filled(case.query, target.names)
        if isinstance(case.body, dict | list | str):
            case.body = filled(case.body, target.names)
        if "timeout" in (case.query or {}):
            case.query["timeout"] = min(5, case.query["timeout"]) if isinstance(case.query["timeout"], int) else "x"
        target.check(case.call(base_url=target.base_url, headers=headers))

    every()
    target.check_alive()


BODIES = [name for name in sorted(OPERATIONS) if name.startswith(("PUT", "POST")) and "logout" not in name]


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_json(target: Target, name: str) -> None:
    method, path = name.split(" ")
    target.prepare(name)
    for parameter, value in (
        ("room_id", "ROOM"),
        ("user_id", "USER"),
        ("event_id", "EVENT"),
        ("alias", "ALIAS"),
        ("name", "ROOM"),
    ):
        path = path.replace(f"{{{parameter}}}", target.names.get(value, "%23none%3Ax"))
    path = path.replace("{", "").replace("}", "")
    headers = {"Authorization": f"Bearer {target.account.token}", "Content-Type": "application/json"}
    for body in NO_JSON:
        response = target.client.request(method, path, content=body, headers=headers)
        target.check(response)
    target.check_alive()


@settings(suppress_health_check=list(HealthCheck))
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]),
)
def test_paths_that_are_none(target: Target, path: str, method: str) -> None:
    response = target.client.request(method, f"/_matrix/client/v3/{quote(path, safe='/%;,=')}")
    if method != "OPTIONS":
        target.check(response)
    assert response.status_code < 500

"""Row 40, as far as there is something: no way around the password, tokens nobody guesses, no secret on the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import PASSWORD, Account
from tests.support.servers import Serve

NOT_A_LOGIN: list[Any] = [
    {},
    {"type": "m.login.password"},
    {"type": "m.login.password", "identifier": {}, "password": PASSWORD},
    {"type": "m.login.password", "identifier": {"type": "m.id.user"}, "password": PASSWORD},
    {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "{user}"}},
    {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "{user}"}, "password": ""},
    {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "{user}"}, "password": "wrong"},
    {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "{user}"}, "password": {}},
    {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "{user}"}, "password": None},
    {"type": "m.login.dummy", "identifier": {"type": "m.id.user", "user": "{user}"}},
    {"type": "m.login.token", "token": ""},
    {"type": "m.login.application_service", "identifier": {"type": "m.id.user", "user": "{user}"}},
]


@pytest.mark.parametrize("body", NOT_A_LOGIN)
def test_no_login_without_the_password(server: Serve, body: Any) -> None:
    alice = Account.new(server.port, "alice")
    if "user" in body.get("identifier", {}):
        body = {**body, "identifier": {**body["identifier"], "user": alice.user_id}}
    status, answer = alice.call("POST", "/login", body)
    assert status in (400, 401, 403), answer
    assert "access_token" not in answer


@pytest.mark.parametrize("token", [None, "", "x", "syt_" + "A" * 40, "\u00e9"])
def test_no_way_in_without_a_token(server: Serve, token: str | None) -> None:
    stranger = Account.new(server.port, "stranger")
    headers = {} if token is None else {b"Authorization": f"Bearer {token}".strip().encode()}
    response = stranger.home.get("/account/whoami", headers=headers)
    assert response.status_code == 401
    assert response.json()["errcode"] in ("M_MISSING_TOKEN", "M_UNKNOWN_TOKEN")


def test_tokens_are_long_and_never_alike(server: Serve) -> None:
    tokens = {Account.new(server.port, "alice").token for _ in range(3)}
    assert len(tokens) == 3
    assert all(token is not None and len(token) >= 32 for token in tokens)


def test_a_token_is_dead_after_logout(server: Serve) -> None:
    alice = Account.new(server.port, "alice")
    alice.done("POST", "/logout", {})
    assert alice.call("GET", "/account/whoami") == (
        401,
        {"errcode": "M_UNKNOWN_TOKEN", "error": alice.call("GET", "/sync")[1]["error"], "soft_logout": False},
    )


def test_neither_passwords_nor_tokens_are_on_the_log_or_in_the_tables(server: Serve) -> None:
    alice = Account.new(server.port, "alice")
    alice.call("POST", "/login", {"type": "m.login.password", "password": "guess-7c1f", "user": alice.user_id})
    data = Path(server.directory, "data")
    assert alice.token is not None
    secrets = [PASSWORD.encode(), alice.token.encode(), b"guess-7c1f"]
    files = [path for path in data.rglob("*") if path.is_file()]
    assert any(path.stat().st_size for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path

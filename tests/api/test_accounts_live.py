"""Accounts with the projectors' loop and its notifications: what only shows when all parts run."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from annals.projectors.positions import reached as positions
from annals.queries.accounts_tokens import Tokens
from tests.support.accounts_house import PASSWORD, SERVER, House

REGISTER = "/_matrix/client/v3/register"
WHOAMI = "/_matrix/client/v3/account/whoami"


def test_twenty_ask_for_one_name_and_one_gets_it(live: House) -> None:
    body = {"username": "alice", "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    with ThreadPoolExecutor(20) as threads:
        outcomes = list(threads.map(lambda _: live.call("POST", REGISTER, body), range(20)))
    won = [answer for status, answer in outcomes if status == 200]
    lost = [answer["errcode"] for status, answer in outcomes if status == 400]
    assert (len(won), lost) == (1, ["M_USER_IN_USE"] * 19)
    assert live.call("GET", WHOAMI, token=won[0]["access_token"])[0] == 200
    # More than one claim was logged: the log's order decided, not the look before it.
    partitions = range(live.log.partitions("users"))
    assert sum(live.log.end("users", partition) for partition in partitions) > 1


def test_a_token_that_was_logged_out_is_dead_at_once_and_in_the_other_process_soon(live: House) -> None:
    reached = live.waiter
    tokens = Tokens(live.database)
    reached.subscribe(lambda notice: tokens.cache.heard(notice.users, notice.everything))  # type: ignore[attr-defined]
    other = TestClient(live.app(tokens=tokens))
    other.portal = live.client.portal  # the same event loop, as everything else lives there
    for number in range(5):
        token = live.register(f"user{number}")["access_token"]
        assert live.call("GET", WHOAMI, token=token)[0] == 200
        assert live.call("GET", WHOAMI, token=token, client=other)[0] == 200
        assert live.call("POST", "/_matrix/client/v3/logout", token=token)[0] == 200
        assert live.call("GET", WHOAMI, token=token)[0] == 401
        assert live.call("GET", WHOAMI, token=token, client=other)[0] == 401


def test_a_registration_waits_for_no_interval(live: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sleep and no polling is on the way: the tables' notice wakes who waits."""
    # Positions are read again once a second, in case a notice got lost. From the next time on: never.
    was_s = positions.REREAD_S
    monkeypatch.setattr(positions, "REREAD_S", 3_600.0)
    time.sleep(was_s + 0.2)
    for number in range(5):
        live.register(f"user{number}", inhibit_login=True)
    assert live.call("GET", f"/_matrix/client/v3/profile/@user4:{SERVER}") == (200, {})

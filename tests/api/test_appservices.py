"""Application services: as whom they may speak, and what is kept for them."""

from __future__ import annotations

import hmac
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from annals.api.appservices import Appservice, Namespace
from tests.support.accounts_house import PASSWORD, SERVER, SHARED_SECRET, House

WHOAMI, LOGIN = "/_matrix/client/v3/account/whoami", "/_matrix/client/v3/login"
REGISTER, AVAILABLE = "/_matrix/client/v3/register", "/_matrix/client/v3/register/available"
SERVICE, DUMMY = "m.login.application_service", {"type": "m.login.dummy"}
IRC = Appservice(
    "irc",
    "irc-token",
    f"@ircbot:{SERVER}",
    users=(Namespace(re.compile("@_irc_.*"), True), Namespace(re.compile("@guest.*"), False)),
    aliases=(Namespace(re.compile("#_irc_.*"), True), Namespace(re.compile("#town.*"), False)),
)
OTHER = Appservice(
    "other", "other-token", f"@otherbot:{SERVER}", users=(Namespace(re.compile("@.*"), False),), aliases=()
)
#: Nobody's.
STRANGE = "strange-token"


@pytest.fixture
def client(house: House) -> TestClient:
    return TestClient(house.app(appservices={one.token: one for one in (IRC, OTHER)}))


def _register(house: House, client: TestClient, name: str, token: str | None = IRC.token, **more: Any) -> Any:
    body = {"type": SERVICE, "username": name, **more}
    return house.call("POST", REGISTER, body, token=token, client=client)


def _errcode(told: tuple[int, Any]) -> tuple[int, str]:
    return told[0], told[1].get("errcode", "")


def test_a_user_of_a_service_is_made_and_spoken_for(house: House, client: TestClient) -> None:
    as_annie = f"{WHOAMI}?user_id=@_irc_annie:{SERVER}"
    assert _errcode(house.call("GET", as_annie, token=IRC.token, client=client)) == (403, "M_FORBIDDEN"), "not yet made"
    status, answer = _register(house, client, "_irc_Annie", inhibit_login=True)
    assert (status, answer["user_id"]) == (200, f"@_irc_annie:{SERVER}")
    assert "access_token" not in answer
    me = {"user_id": f"@_irc_annie:{SERVER}", "is_guest": False}
    assert house.call("GET", as_annie, token=IRC.token, client=client) == (200, me)
    assert house.call("GET", WHOAMI, token=IRC.token, client=client)[1]["user_id"] == IRC.sender
    # The parameter is for services alone.
    house.register("alice")
    assert house.call("GET", as_annie, token=house.token, client=client)[1]["user_id"] == f"@alice:{SERVER}"
    status, answer = _register(house, client, "_irc_bert", device_id="D")
    assert answer["device_id"] == "D"
    assert house.call("GET", WHOAMI, token=answer["access_token"], client=client)[1]["device_id"] == "D"


def test_nobody_else_is_spoken_for(house: House, client: TestClient) -> None:
    house.register("alice")
    # Of another server, though the pattern has it; no user id; of nobody's namespace.
    for user_id in (f"@alice:{SERVER}", "@_irc_annie:elsewhere", "_irc_annie", "", "@_irc_\0:test"):
        told = house.call("GET", f"{WHOAMI}?user_id={user_id.replace(chr(0), '%00')}", token=IRC.token, client=client)
        assert _errcode(told) == (403, "M_FORBIDDEN"), user_id
    assert _errcode(house.call("GET", f"{WHOAMI}?user_id=@alice:{SERVER}", token=STRANGE, client=client)) == (
        401,
        "M_UNKNOWN_TOKEN",
    )


def test_whose_account_is_closed_is_not_spoken_for(house: House, client: TestClient) -> None:
    _register(house, client, "_irc_annie")
    as_annie = f"{WHOAMI}?user_id=@_irc_annie:{SERVER}"
    assert house.call("GET", as_annie, token=IRC.token, client=client)[0] == 200
    house.connection.begin()
    house.connection.execute("UPDATE accounts SET deactivated = TRUE")
    house.connection.commit()
    house.services.tokens.cache.users_moved([f"@_irc_annie:{SERVER}"])
    assert _errcode(house.call("GET", as_annie, token=IRC.token, client=client)) == (403, "M_FORBIDDEN")


def test_that_a_user_is_known_is_no_token(house: House, client: TestClient) -> None:
    _register(house, client, "_irc_annie")
    assert house.call("GET", f"{WHOAMI}?user_id=@_irc_annie:{SERVER}", token=IRC.token, client=client)[0] == 200
    for token in (f"@_irc_annie:{SERVER}", f"account of @_irc_annie:{SERVER}", f"%00@_irc_annie:{SERVER}"):
        assert house.call("GET", f"{WHOAMI}?access_token={token}", client=client)[0] == 401


@pytest.mark.parametrize(
    ("name", "token", "told"),
    [
        ("_irc_annie", None, (401, "M_MISSING_TOKEN")),
        ("_irc_annie", STRANGE, (401, "M_UNKNOWN_TOKEN")),
        ("annie", IRC.token, (400, "M_EXCLUSIVE")),
        ("_irc_annie", OTHER.token, (400, "M_EXCLUSIVE")),
        ("ircbot", OTHER.token, (400, "M_EXCLUSIVE")),
        ("guest1", OTHER.token, (200, "")),
        ("guest1", IRC.token, (200, "")),
        ("ircbot", IRC.token, (200, "")),
        ("_irc_an nie", IRC.token, (400, "M_INVALID_USERNAME")),
    ],
)
def test_which_users_a_service_may_make(house: House, client: TestClient, name: str, token: str, told: Any) -> None:
    assert _errcode(_register(house, client, name, token)) == told
    if told[0] == 200:
        assert _errcode(_register(house, client, name, token)) == (400, "M_USER_IN_USE")


def test_a_service_says_which_user(house: House, client: TestClient) -> None:
    told = house.call("POST", REGISTER, {"type": SERVICE}, token=IRC.token, client=client)
    assert _errcode(told) == (400, "M_MISSING_PARAM")


def test_what_is_kept_is_not_for_people(house: House, client: TestClient) -> None:
    for name, kept in (("_irc_annie", True), ("_IRC_annie", True), ("ircbot", True), ("guest1", False)):
        told = (400, "M_EXCLUSIVE") if kept else (200, "")
        assert _errcode(house.call("GET", f"{AVAILABLE}?username={name}", client=client)) == told
        body = {"username": name, "password": PASSWORD, "auth": DUMMY}
        assert _errcode(house.call("POST", REGISTER, body, client=client)) == told


def test_nor_for_who_has_the_shared_secret(house: House, client: TestClient) -> None:
    path = "/_synapse/admin/v1/register"
    nonce = house.call("GET", path, client=client)[1]["nonce"]
    said = f"{nonce}\0_irc_annie\0{PASSWORD}\0notadmin".encode()
    mac = hmac.new(SHARED_SECRET.encode(), said, "sha1").hexdigest()
    body = {"nonce": nonce, "username": "_irc_annie", "password": PASSWORD, "mac": mac}
    assert _errcode(house.call("POST", path, body, client=client)) == (400, "M_EXCLUSIVE")


def test_a_user_of_a_service_logs_in_without_a_password(house: House, client: TestClient) -> None:
    _register(house, client, "_irc_annie", password=PASSWORD)

    def log_in(user: str, token: str | None = IRC.token, **more: Any) -> tuple[int, Any]:
        body = {"type": SERVICE, "identifier": {"type": "m.id.user", "user": user}, **more}
        return house.call("POST", LOGIN, body, token=token, client=client)

    for user in ("_irc_annie", f"@_irc_annie:{SERVER}"):
        status, answer = log_in(user, device_id="D")
        assert (status, answer["user_id"], answer["device_id"]) == (200, f"@_irc_annie:{SERVER}", "D")
        assert house.call("GET", WHOAMI, token=answer["access_token"], client=client)[0] == 200
    assert {"type": SERVICE} in house.call("GET", LOGIN, client=client)[1]["flows"]
    house.register("alice")
    assert _errcode(log_in("alice")) == (403, "M_EXCLUSIVE")
    assert _errcode(log_in("_irc_nobody")) == (403, "M_FORBIDDEN")
    assert _errcode(log_in("_irc_annie", None)) == (401, "M_MISSING_TOKEN")
    assert _errcode(log_in("_irc_annie", house.token)) == (401, "M_UNKNOWN_TOKEN")
    # What the service sent as a password is none.
    by_password = {"type": "m.login.password", "user": "_irc_annie", "password": PASSWORD}
    assert _errcode(house.call("POST", LOGIN, by_password, client=client)) == (403, "M_FORBIDDEN")


def test_aliases_are_kept_too(house: House, client: TestClient) -> None:
    house.register("alice")
    alice = house.token

    def tries(method: str, alias: str, token: str) -> str:
        path = f"/_matrix/client/v3/directory/room/%23{alias}:{SERVER}"
        body = {"room_id": "!nowhere:test"} if method == "PUT" else None
        return _errcode(house.call(method, path, body, token=token, client=client))[1]

    for method, let_through in (("PUT", "M_FORBIDDEN"), ("DELETE", "M_NOT_FOUND")):
        assert tries(method, "_irc_town", alice) == "M_EXCLUSIVE"
        assert tries(method, "village", IRC.token) == "M_EXCLUSIVE"
        # Let through: there is no such room, and no such alias.
        for alias, token in (("_irc_town", IRC.token), ("town", IRC.token), ("town", alice), ("village", alice)):
            assert tries(method, alias, token) == let_through, (method, alias)
    body = {"room_alias_name": "_irc_town"}
    assert _errcode(house.call("POST", "/_matrix/client/v3/createRoom", body, token=alice, client=client)) == (
        400,
        "M_EXCLUSIVE",
    )

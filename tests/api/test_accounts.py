"""Registering, logging in and out, over the real tables and the real log."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from annals.api.appservices import Appservice
from annals.commands.tokens import token_hash
from annals.queries.accounts_tokens import hash_of
from annals.schemas.codec import decode
from annals.schemas.facts.envelope import Sealed
from annals.schemas.facts.users import AccountRegistered
from tests.support.accounts_house import PASSWORD, SERVER, SHARED_SECRET, House

REGISTER = "/_matrix/client/v3/register"
LOGIN = "/_matrix/client/v3/login"
WHOAMI = "/_matrix/client/v3/account/whoami"
DUMMY = {"type": "m.login.dummy"}


@pytest.fixture(scope="module")
def with_alice(shared_house: House) -> House:
    """A house that alice has an account in."""
    shared_house.register("alice")
    return shared_house


def _login(user: Any, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
    return {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": password, **more}


def test_register_then_whoami(house: House) -> None:
    made = house.register("alice", device_id="PHONE", initial_device_display_name="Alice's phone")
    assert made["user_id"] == f"@alice:{SERVER}"
    assert made["device_id"] == "PHONE"
    assert house.call("GET", WHOAMI, token=made["access_token"]) == (
        200,
        {"user_id": f"@alice:{SERVER}", "device_id": "PHONE", "is_guest": False},
    )
    device = {"device_id": "PHONE", "display_name": "Alice's phone"}
    assert house.call("GET", "/_matrix/client/v3/devices", token=made["access_token"]) == (200, {"devices": [device]})
    assert house.call("GET", "/_matrix/client/v3/devices/PHONE", token=made["access_token"]) == (200, device)
    assert house.call("GET", "/_matrix/client/v3/devices/OTHER", token=made["access_token"])[0] == 404


def test_the_log_has_neither_password_nor_token(house: House) -> None:
    token = house.register("alice")["access_token"]
    facts = [decode(r.value) for p in range(8) for r in house.log.read("users", p, 0) if r.value is not None]
    (registered,) = [fact for fact in facts if isinstance(fact, AccountRegistered)]
    assert isinstance(registered.password_hash, Sealed)
    assert registered.device is not None
    assert registered.device.token_hash == token_hash(token) == hash_of(token)
    for topic in ("users", "subject_keys", "schemas"):
        for partition in range(house.log.partitions(topic)):
            for record in house.log.read(topic, partition, 0):
                for secret in (PASSWORD.encode(), token.encode(), b"$argon2"):
                    assert secret not in (record.value or b"")


def test_registration_goes_through_the_dummy_stage(house: House) -> None:
    body = {"username": "alice", "password": PASSWORD}
    status, first = house.call("POST", REGISTER, body)
    assert status == 401
    assert first["flows"] == [{"stages": ["m.login.dummy"]}]
    # What only names its session asks how far it has come.
    status, again = house.call("POST", REGISTER, {**body, "auth": {"session": first["session"]}})
    assert (status, again["session"]) == (401, first["session"])
    status, other = house.call("POST", REGISTER, {**body, "auth": {"type": "m.login.email.identity"}})
    assert (status, other["errcode"]) == (401, "M_UNKNOWN")
    status, made = house.call("POST", REGISTER, {**body, "auth": {**DUMMY, "session": first["session"]}})
    assert (status, made["user_id"]) == (200, f"@alice:{SERVER}")


def test_twenty_ask_for_one_name_and_one_gets_it(house: House) -> None:
    body = {"username": "alice", "password": PASSWORD, "auth": DUMMY}
    with ThreadPoolExecutor(20) as threads:
        outcomes = list(threads.map(lambda _: house.call("POST", REGISTER, body), range(20)))
    won = [answer for status, answer in outcomes if status == 200]
    lost = [answer["errcode"] for status, answer in outcomes if status == 400]
    assert (len(won), lost) == (1, ["M_USER_IN_USE"] * 19)
    assert house.call("GET", WHOAMI, token=won[0]["access_token"])[0] == 200
    # The password hash opens, whichever key came first.
    assert house.call("POST", LOGIN, _login("alice"))[0] == 200


@pytest.mark.parametrize("name", ["", "a b", "ü", "a:b", "a\0b", "a" * 300, "#a", "a%40b"])
def test_names_that_nobody_gets(shared_house: House, name: str) -> None:
    status, answer = shared_house.call("POST", REGISTER, {"username": name, "password": PASSWORD, "auth": DUMMY})
    assert (status, answer["errcode"]) == (400, "M_INVALID_USERNAME")


def test_capitals_are_lowered_and_a_name_may_be_left_out(house: House) -> None:
    assert house.register("Alice")["user_id"] == f"@alice:{SERVER}"
    status, answer = house.call("POST", REGISTER, {"username": "aLICE", "password": PASSWORD, "auth": DUMMY})
    assert (status, answer["errcode"]) == (400, "M_USER_IN_USE")
    status, answer = house.call("POST", REGISTER, {"password": PASSWORD, "auth": DUMMY})
    assert status == 200
    assert answer["user_id"].endswith(f":{SERVER}")


def test_register_without_login(house: House) -> None:
    made = house.register("alice", inhibit_login=True)
    assert made == {"user_id": f"@alice:{SERVER}", "home_server": SERVER}


def test_availability(house: House) -> None:
    house.register("alice")
    path = REGISTER + "/available?username="
    assert house.call("GET", path + "bob") == (200, {"available": True})
    assert house.call("GET", path + "alice")[1]["errcode"] == "M_USER_IN_USE"
    assert house.call("GET", path + "%00")[1]["errcode"] == "M_INVALID_USERNAME"
    assert house.call("GET", REGISTER + "/available")[1]["errcode"] == "M_MISSING_PARAM"


def test_guests_and_closed_registration(house: House) -> None:
    assert house.call("POST", REGISTER + "?kind=guest", {})[0] == 403
    assert house.call("POST", REGISTER + "?kind=robot", {})[0] == 400
    closed = TestClient(house.app(settings=replace(house.services.settings, registration_enabled=False)))
    body = {"username": "bob", "password": PASSWORD, "auth": DUMMY}
    status, answer = house.call("POST", REGISTER, body, client=closed)
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")


def test_login_by_name_by_id_and_the_older_way(house: House) -> None:
    house.register("alice")
    for user in ("alice", "Alice", f"@alice:{SERVER}"):
        status, answer = house.call("POST", LOGIN, _login(user, initial_device_display_name="x"))
        assert (status, answer["user_id"]) == (200, f"@alice:{SERVER}")
    old = {"type": "m.login.password", "user": "alice", "password": PASSWORD}
    assert house.call("POST", LOGIN, old)[0] == 200
    assert house.call("GET", LOGIN) == (200, {"flows": [{"type": "m.login.password"}]})


@pytest.mark.parametrize(
    ("body", "status", "errcode"),
    [
        (_login("alice", "wrong"), 403, "M_FORBIDDEN"),
        (_login("nobody"), 403, "M_FORBIDDEN"),
        (_login("a\0b"), 403, "M_FORBIDDEN"),
        (_login("alice", "x" * 10_000), 403, "M_FORBIDDEN"),
        (_login("alice") | {"type": "m.login.nonsense"}, 400, "M_UNKNOWN"),
        (_login(5), 400, "M_BAD_JSON"),
        (_login(None), 400, "M_MISSING_PARAM"),
        (_login("alice", device_id=""), 400, "M_INVALID_PARAM"),
        (_login("alice", device_id=7), 400, "M_BAD_JSON"),
        (_login("alice") | {"password": None}, 400, "M_MISSING_PARAM"),
        ({"type": "m.login.password", "password": "x"}, 400, "M_MISSING_PARAM"),
        ({"identifier": {}}, 400, "M_MISSING_PARAM"),
    ],
)
def test_logins_that_fail(with_alice: House, body: dict[str, Any], status: int, errcode: str) -> None:
    got, answer = with_alice.call("POST", LOGIN, body)
    assert (got, answer["errcode"]) == (status, errcode)


def test_a_log_in_on_a_known_device_ends_its_old_token(house: House) -> None:
    old = house.register("alice", device_id="PHONE")["access_token"]
    assert house.call("GET", WHOAMI, token=old)[0] == 200
    new = house.call("POST", LOGIN, _login("alice", device_id="PHONE"))[1]["access_token"]
    status, answer = house.call("GET", WHOAMI, token=old)
    assert (status, answer["errcode"], answer["soft_logout"]) == (401, "M_UNKNOWN_TOKEN", False)
    assert house.call("GET", WHOAMI, token=new)[0] == 200


def test_log_out_and_log_out_everywhere(house: House) -> None:
    first = house.register("alice")["access_token"]
    second = house.call("POST", LOGIN, _login("alice"))[1]["access_token"]
    third = house.call("POST", LOGIN, _login("alice"))[1]["access_token"]
    bob = house.register("bob")["access_token"]
    for token in (first, second, third):
        assert house.call("GET", WHOAMI, token=token)[0] == 200
    assert house.call("POST", "/_matrix/client/v3/logout", token=first) == (200, {})
    assert [house.call("GET", WHOAMI, token=t)[0] for t in (first, second, third)] == [401, 200, 200]
    assert house.call("POST", "/_matrix/client/v3/logout/all", token=second) == (200, {})
    assert [house.call("GET", WHOAMI, token=t)[0] for t in (second, third, bob)] == [401, 401, 200]


def test_tokens_come_in_header_or_query(house: House) -> None:
    token = house.register("alice")["access_token"]
    assert house.call("GET", f"{WHOAMI}?access_token={token}")[0] == 200
    assert house.call("GET", WHOAMI)[1]["errcode"] == "M_MISSING_TOKEN"
    for bad in ("nonsense", "x" * 10_000):
        assert house.call("GET", WHOAMI, token=bad)[1]["errcode"] == "M_UNKNOWN_TOKEN"
    assert house.call("GET", f"{WHOAMI}?access_token=%00%ff")[1]["errcode"] == "M_UNKNOWN_TOKEN"


def test_an_application_service_is_its_sender(house: House) -> None:
    bridge = Appservice("bridge", "as-token", f"@bridge:{SERVER}")
    client = TestClient(house.app(appservices={bridge.token: bridge}))
    me = {"user_id": bridge.sender, "is_guest": False}
    assert house.call("GET", WHOAMI, token="as-token", client=client) == (200, me)
    assert house.call("GET", f"{WHOAMI}?user_id=@bridge:{SERVER}", token="as-token", client=client) == (200, me)
    assert house.call("GET", WHOAMI, token="as-token")[0] == 401


def test_a_registration_that_is_not_decided_in_time_is_503(house: House) -> None:
    house.folder.out_of_time = True
    status, answer = house.call("POST", REGISTER, {"username": "alice", "password": PASSWORD, "auth": DUMMY})
    assert (status, answer["errcode"]) == (503, "M_UNKNOWN")
    house.folder.out_of_time = False
    assert house.register("alice")["user_id"] == f"@alice:{SERVER}"


def _admin_body(nonce: str, user: str, admin: bool = True) -> dict[str, Any]:
    parts = (nonce, user, PASSWORD, "admin" if admin else "notadmin")
    mac = hmac.new(SHARED_SECRET.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
    return {"nonce": nonce, "username": user, "password": PASSWORD, "mac": mac, "admin": admin}


def test_registration_by_shared_secret(house: House) -> None:
    path = "/_synapse/admin/v1/register"
    nonce = house.call("GET", path)[1]["nonce"]
    body = _admin_body(nonce, "root")
    assert house.call("POST", path, body | {"mac": "0" * 40})[0] == 403
    assert house.call("POST", path, body | {"admin": False})[0] == 403
    status, made = house.call("POST", path, body)
    assert (status, made["user_id"]) == (200, f"@root:{SERVER}")
    assert house.call("GET", WHOAMI, token=made["access_token"])[0] == 200
    # A nonce is for one use, and for a minute.
    assert house.call("POST", path, _admin_body(nonce, "root2"))[0] == 400
    stale = house.call("GET", path)[1]["nonce"]
    house.times.now_ms += 61_000
    assert house.call("POST", path, _admin_body(stale, "root2"))[0] == 400
    assert house.call("POST", path, _admin_body("made.up", "root2"))[0] == 400

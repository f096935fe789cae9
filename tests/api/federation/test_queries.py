"""What servers ask about users, aliases and devices of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from annals.api.server.devices import DEVICES_MAX, USERS_MAX
from annals.commands.openid import VALID_FOR_S, OpenIdTokens
from annals.database.rows import Rows
from annals.queries.federation.devices import FederationDevices
from annals.queries.openid import OpenIdReads
from tests.support import room_rows
from tests.support.accounts_house import House
from tests.support.signed_requests import FederationApp, path, verifier

PEER = "peer"


@contextmanager
def asked_at(house: House) -> Iterator[FederationApp]:
    """The small server, asked by others."""
    database = house.database
    app = house.app(
        requests=verifier(),
        federation_devices=FederationDevices(database),
        openid=OpenIdTokens(database, house.times.now),
        openid_reads=OpenIdReads(database, house.times.now),
    )
    client = TestClient(app)
    # The same event loop: who waits for the tables in another one is not woken by them.
    client.portal = house.client.portal
    house.client = client
    yield FederationApp(client)


@pytest.fixture
def at(house: House) -> Iterator[FederationApp]:
    """The same as a fixture."""
    with asked_at(house) as app:
        yield app


def test_a_profile_is_told_whole_or_by_field(house: House, at: FederationApp) -> None:
    house.register("alice")
    base = "/_matrix/client/v3/profile/@alice:test"
    for field, value in (("displayname", "Alice"), ("org.example.pet", "cat")):
        assert house.call("PUT", f"{base}/{field}", {field: value}, house.token)[0] == 200
    whole = {"displayname": "Alice", "org.example.pet": "cat"}
    assert at.get(PEER, "/query/profile", user_id="@alice:test") == (200, whole)
    assert at.get(PEER, "/query/profile", user_id="@alice:test", field="displayname") == (200, {"displayname": "Alice"})
    assert at.get(PEER, "/query/profile", user_id="@alice:test", field="avatar_url") == (200, {})


@pytest.mark.parametrize(
    ("user_id", "status", "errcode"),
    [
        ("@nobody:test", 404, "M_NOT_FOUND"),
        ("@user1:test:http", 400, "M_INVALID_PARAM"),
        ("@user1:elsewhere", 400, "M_INVALID_PARAM"),
        ("alice", 400, "M_INVALID_PARAM"),
    ],
)
def test_profiles_of_others_are_not_told(at: FederationApp, user_id: str, status: int, errcode: str) -> None:
    for found in (at.get(PEER, "/query/profile", user_id=user_id), at.get(PEER, path("user", "devices", user_id))):
        assert (found[0], found[1]["errcode"]) == (status, errcode)


def test_an_alias_is_resolved(house: House, at: FederationApp) -> None:
    house.register("alice")
    alias = "#ünicode:test"
    rows = Rows()
    room_rows.room(rows, "!r:test", "@alice:test")
    room_rows.member(rows, "!r:test", "@alice:test")
    room_rows.member(rows, "!r:test", "@carol:peer")
    house.put_rows(rows)
    made = house.call("PUT", f"/_matrix/client/v3/directory{path('room', alias)}", {"room_id": "!r:test"}, house.token)
    assert made[0] == 200
    status, answer = at.get(PEER, "/query/directory", room_alias=alias)
    assert (status, answer) == (200, {"room_id": "!r:test", "servers": ["test", "peer"]})
    status, answer = at.get(PEER, "/query/directory", room_alias="#none:test")
    assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")
    assert at.get(PEER, "/query/directory")[0] == 400
    assert at.get(PEER, "/query/directory", room_alias="nothing")[0] == 400


def test_other_queries_are_not_known(at: FederationApp) -> None:
    status, answer = at.get(PEER, "/query/weather")
    assert (status, answer["errcode"]) == (404, "M_UNRECOGNIZED")
    assert at.client.get("/_matrix/federation/v1/query/weather").status_code == 401


def test_devices_of_our_users_and_only_of_them(live: House) -> None:
    first = live.register("alice", device_id="ONE")
    user, password = {"type": "m.id.user", "user": "alice"}, "long enough password"
    login = {"type": "m.login.password", "identifier": user, "device_id": "TWO", "password": password}
    with asked_at(live) as at:
        status, one = at.get(PEER, path("user", "devices", first["user_id"]))
        assert (status, [device["device_id"] for device in one["devices"]]) == (200, ["ONE"])
        assert live.call("POST", "/_matrix/client/v3/login", login)[0] == 200
        _, two = at.get(PEER, path("user", "devices", first["user_id"]))
    assert [device["device_id"] for device in two["devices"]] == ["ONE", "TWO"]
    assert all(device["keys"]["user_id"] == first["user_id"] for device in two["devices"])
    assert two["stream_id"] > one["stream_id"]


def test_keys_are_asked_for_by_user(house: House, at: FederationApp) -> None:
    alice = house.register("alice")["user_id"]
    asked: dict[str, list[str]] = {alice: [], "@nobody:test": [], "@bob:peer": []}
    assert at.post(PEER, "/user/keys/query", {"device_keys": asked}) == (200, {"device_keys": {alice: {}}})
    claimed = {user_id: {"DEVICE": "signed_curve25519"} for user_id in asked}
    assert at.post(PEER, "/user/keys/claim", {"one_time_keys": claimed}) == (200, {"one_time_keys": {alice: {}}})
    assert at.post(PEER, "/user/keys/query", {})[0] == 400
    assert at.post(PEER, "/user/keys/query", {"device_keys": {alice: "all"}})[0] == 400
    assert at.post(PEER, "/user/keys/claim", {"one_time_keys": {alice: []}})[0] == 400


def test_how_many_keys_one_request_may_name(house: House, at: FederationApp) -> None:
    users = [f"@user{number}:test" for number in range(USERS_MAX)]
    devices = [f"D{number}" for number in range(DEVICES_MAX // 2 + 1)]
    for what, named in (("query", "device_keys"), ("claim", "one_time_keys")):
        each: Any = devices if what == "query" else dict.fromkeys(devices, "signed_curve25519")
        none: Any = [] if what == "query" else {}
        path = f"/user/keys/{what}"
        assert at.post(PEER, path, {named: dict.fromkeys(users, none)})[0] == 200
        assert at.post(PEER, path, {named: {users[0]: each}})[0] == 200
        for many in (dict.fromkeys([*users, "@one:test"], none), dict.fromkeys(users[:2], each)):
            status, answer = at.post(PEER, path, {named: many})
            assert (status, answer["errcode"]) == (400, "M_BAD_JSON")


def test_an_openid_token_names_its_user_for_an_hour(house: House, at: FederationApp) -> None:
    alice = house.register("alice")["user_id"]
    asked = f"/_matrix/client/v3{path('user', alice, 'openid', 'request_token')}"
    status, token = house.call("POST", asked, {}, house.token)
    assert (status, token["token_type"], token["expires_in"]) == (200, "Bearer", VALID_FOR_S)
    assert token["matrix_server_name"] == "test"
    userinfo = "/_matrix/federation/v1/openid/userinfo"

    def told(access_token: str) -> tuple[int, str]:
        response = at.client.get(userinfo, params={"access_token": access_token})
        return response.status_code, response.json().get("sub") or response.json()["errcode"]

    assert told(token["access_token"]) == (200, alice)
    assert told("another") == (401, "M_UNKNOWN_TOKEN")
    # It opens nothing else, and the user's own token is none of these.
    assert house.call("GET", "/_matrix/client/v3/account/whoami", token=token["access_token"])[0] == 401
    assert told(house.token) == (401, "M_UNKNOWN_TOKEN")
    assert at.client.get(userinfo).json()["errcode"] == "M_MISSING_TOKEN"
    stored = house.database.read_now(lambda snapshot: snapshot.rows("SELECT * FROM ops.openid_tokens"))
    assert token["access_token"] not in str(stored)
    house.times.now_ms += VALID_FOR_S * 1_000
    assert told(token["access_token"]) == (401, "M_UNKNOWN_TOKEN")
    # Who asks for the next one sweeps up.
    assert house.call("POST", asked, {}, house.token)[0] == 200
    assert house.database.read_now(lambda snapshot: snapshot.rows("SELECT count(*) FROM ops.openid_tokens")) == [(1,)]


def test_an_openid_token_is_for_oneself(house: House, at: FederationApp) -> None:
    house.register("alice")
    asked = "/_matrix/client/v3/user/@bob:test/openid/request_token"
    assert house.call("POST", asked, {}, house.token)[0] == 403
    assert house.call("POST", asked, {})[0] == 401

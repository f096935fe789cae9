"""Profiles, filters and account data."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.accounts_house import SERVER, House

ALICE = f"@alice:{SERVER}"
PROFILE = f"/_matrix/client/v3/profile/{ALICE}"


@pytest.fixture
def token(house: House) -> str:
    """Alice's."""
    made: str = house.register("alice")["access_token"]
    return made


@pytest.fixture(scope="module")
def with_alice(shared_house: House) -> House:
    """A house that only alice has an account in, for what is refused."""
    shared_house.register("alice")
    return shared_house


def test_fields_are_set_read_and_removed(house: House, token: str) -> None:
    assert house.call("GET", PROFILE) == (200, {})
    fields: dict[str, Any] = {
        "displayname": "Alice \0 <b>ü</b>",
        "avatar_url": "mxc://x/y",
        "m.tz": "Europe/Berlin",
        "org.example.any": {"deep": [1, 2**80, None, "\0"]},
    }
    for field, value in fields.items():
        assert house.call("PUT", f"{PROFILE}/{field}", {field: value}, token) == (200, {})
    assert house.call("GET", PROFILE) == (200, fields)
    assert house.call("GET", f"{PROFILE}/m.tz") == (200, {"m.tz": "Europe/Berlin"})
    assert house.call("DELETE", f"{PROFILE}/displayname", token=token) == (200, {})
    assert house.call("DELETE", f"{PROFILE}/org.example.never", token=token) == (200, {})
    assert house.call("GET", f"{PROFILE}/displayname")[0] == 404
    assert house.call("GET", f"/_matrix/client/v3/profile/@nobody:{SERVER}")[1]["errcode"] == "M_NOT_FOUND"


@pytest.mark.parametrize(
    ("field", "body", "status", "errcode"),
    [
        ("displayname", {}, 400, "M_MISSING_PARAM"),
        ("displayname", {"displayname": 5}, 400, "M_BAD_JSON"),
        ("displayname", {"displayname": None}, 400, "M_BAD_JSON"),
        ("displayname", {"displayname": "x" * 2000}, 400, "M_INVALID_PARAM"),
        ("displayname", [], 400, "M_BAD_JSON"),
        ("Nonsense", {"Nonsense": 1}, 400, "M_INVALID_PARAM"),
        ("nodot", {"nodot": 1}, 400, "M_INVALID_PARAM"),
        ("%00", {"\0": 1}, 400, "M_INVALID_PARAM"),
        ("a." + "b" * 255, {"a." + "b" * 255: 1}, 400, "M_KEY_TOO_LARGE"),
        ("a.big", {"a.big": "x" * 65_536}, 400, "M_PROFILE_TOO_LARGE"),
    ],
)
def test_fields_that_cannot_be_set(with_alice: House, field: str, body: Any, status: int, errcode: str) -> None:
    got, answer = with_alice.call("PUT", f"{PROFILE}/{field}", body, with_alice.token)
    assert (got, answer["errcode"]) == (status, errcode)
    assert with_alice.call("GET", PROFILE) == (200, {})


def test_the_whole_profile_stays_below_64_kib(house: House, token: str) -> None:
    def put(field: str, size: int) -> int:
        return house.call("PUT", f"{PROFILE}/{field}", {field: "x" * size}, token)[0]

    assert put("a.one", 40_000) == 200
    assert put("a.two", 30_000) == 400
    assert put("a.one", 45_000) == 200
    assert put("a.two", 15_000) == 200


def test_only_ones_own_profile(house: House, token: str) -> None:
    bob = house.register("bob")["access_token"]
    assert house.call("PUT", f"{PROFILE}/displayname", {"displayname": "x"}, bob)[1]["errcode"] == "M_FORBIDDEN"
    assert house.call("DELETE", f"{PROFILE}/displayname", token=bob)[0] == 403
    assert house.call("PUT", f"{PROFILE}/displayname", {"displayname": "x"})[0] == 401
    assert house.call("GET", "/_matrix/client/v3/profile/nonsense")[1]["errcode"] == "M_INVALID_PARAM"


def test_a_filter_is_kept_under_an_id_of_its_own(house: House, token: str) -> None:
    path = f"/_matrix/client/v3/user/{ALICE}/filter"
    definition = {"room": {"timeline": {"limit": 5, "types": ["m.\0"]}}, "extra": {"kept": True}}
    status, made = house.call("POST", path, definition, token)
    assert status == 200
    assert not made["filter_id"].startswith("{")
    assert house.call("GET", f"{path}/{made['filter_id']}", token=token) == (200, definition)
    assert house.call("POST", path, definition, token)[1] == made
    assert house.call("POST", path, {}, token)[1] != made
    assert house.call("GET", f"{path}/nonsense", token=token)[1]["errcode"] == "M_NOT_FOUND"
    bob = house.register("bob")["access_token"]
    assert house.call("GET", f"{path}/{made['filter_id']}", token=bob)[0] == 403
    assert house.call("POST", path, {}, bob)[0] == 403


@pytest.mark.parametrize(
    "definition",
    [
        {"room": 5},
        {"room": {"timeline": {"limit": "5"}}},
        {"room": {"timeline": {"limit": 0}}},
        {"room": {"rooms": "x"}},
        {"event_fields": [1]},
        {"event_format": "nonsense"},
        {"presence": {"types": [None]}},
    ],
)
def test_filters_of_wrong_shape(with_alice: House, definition: Any) -> None:
    path = f"/_matrix/client/v3/user/{ALICE}/filter"
    status, answer = with_alice.call("POST", path, definition, with_alice.token)
    assert (status, answer["errcode"]) == (400, "M_BAD_JSON")


def test_account_data_of_the_user_and_of_rooms(house: House, token: str) -> None:
    user = f"/_matrix/client/v3/user/{ALICE}"
    everywhere, here = f"{user}/account_data/m.x%2Fy", f"{user}/rooms/!r%2F%3Ax/account_data/m.x%2Fy"
    content = {"big": 2**70, "nul": "\0", "nested": {"a": []}}
    assert house.call("GET", everywhere, token=token)[1]["errcode"] == "M_NOT_FOUND"
    assert house.call("PUT", everywhere, content, token) == (200, {})
    assert house.call("GET", everywhere, token=token) == (200, content)
    assert house.call("GET", here, token=token)[0] == 404
    assert house.call("PUT", here, {"here": 1}, token) == (200, {})
    assert house.call("PUT", here, {"here": 2}, token) == (200, {})
    assert house.call("GET", here, token=token) == (200, {"here": 2})
    assert house.call("GET", everywhere, token=token) == (200, content)


def test_account_data_that_is_refused(house: House, token: str) -> None:
    user = f"/_matrix/client/v3/user/{ALICE}"
    for type in ("m.fully_read", "m.push_rules"):
        for path in (f"{user}/account_data/{type}", f"{user}/rooms/!r:x/account_data/{type}"):
            status, answer = house.call("PUT", path, {}, token)
            assert (status, answer["errcode"]) == (405, "M_BAD_JSON")
    path = f"{user}/account_data/m.x"
    assert house.call("PUT", path, [], token)[1]["errcode"] == "M_BAD_JSON"
    assert house.call("PUT", path, {"x": "y" * 70_000}, token)[1]["errcode"] == "M_TOO_LARGE"
    assert house.call("PUT", f"{user}/account_data/{'x' * 300}", {}, token)[1]["errcode"] == "M_INVALID_PARAM"
    assert house.call("PUT", f"{user}/rooms/nonsense/account_data/m.x", {}, token)[1]["errcode"] == "M_INVALID_PARAM"
    bob = house.register("bob")["access_token"]
    assert house.call("PUT", path, {}, bob)[1]["errcode"] == "M_FORBIDDEN"
    assert house.call("GET", path, token=bob)[1]["errcode"] == "M_FORBIDDEN"
    assert house.call("GET", f"{user}/account_data/m.push_rules", token=token)[0] == 200

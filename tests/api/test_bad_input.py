"""Whatever is sent to the endpoints of accounts, they answer with an error of the specification, never with a 500."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import event, given, settings
from hypothesis import strategies as st

from annals.api import routes
from annals.api.admin import registration
from annals.api.client import account_data, aliases, devices, discovery, filters, login, profile, push_rules, register
from annals.api.server import keys
from tests.support.accounts_house import SERVER, House

ROUTERS = [
    m.router
    for m in (
        *(account_data, aliases, devices, discovery, filters, login, profile, push_rules, register),
        registration,
        keys,
    )
]
ENDPOINTS = sorted({(method, route.path) for router in ROUTERS for route in router.routes for method in route.methods})
#: Parameters that get past the first checks, and texts that should not.
_ODD = ["\0", "%", "/", "..", "ü", "\u2028", "'", '"', "\\", "@", "#", "!", ":", "x" * 70_000, "\x01", "{}", " ", "0"]
_NAMES = [
    f"@alice:{SERVER}",
    f"#a:{SERVER}",
    "@bob:other.example",
    "#b:other.example",
    "!r:x",
    "m.x",
    "displayname",
    "override",
    ".m.rule.master",
    "DEVICE",
]
_PARAMETER = st.one_of(
    st.sampled_from(_NAMES),
    st.sampled_from(_ODD),
    st.text(max_size=8),
    st.builds(str.__add__, *[st.sampled_from(_NAMES + _ODD)] * 2),
)
_VALUES = [*_NAMES, *_ODD, "\ud800", 2**64, 10**400]
_JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(_VALUES)),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
_KEYS = (
    *("username", "password", "auth", "type", "session", "device_id", "initial_device_display_name", "inhibit_login"),
    *("identifier", "user", "room_id", "visibility", "displayname", "m.x", "nonce", "mac", "admin", "room", "limit"),
)
_KNOWN: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(_KEYS, _JSON)
_OBJECT = st.fixed_dictionaries(
    {},
    optional=_KNOWN
    | {
        "type": st.one_of(_JSON, st.just("m.login.password")),
        "identifier": st.one_of(_JSON, st.fixed_dictionaries({"type": st.just("m.id.user"), "user": _JSON})),
        "auth": st.one_of(_JSON, st.just({"type": "m.login.dummy"})),
        "password": st.one_of(_JSON, st.just("a password")),
        "room": st.fixed_dictionaries({}, optional={"timeline": _JSON, "rooms": _JSON, "state": _JSON}),
    },
)
_BODY = st.one_of(st.binary(max_size=20), _JSON, _OBJECT, _OBJECT, _OBJECT)


def _bytes(body: Any) -> bytes:
    # This writer also writes what is no JSON: NaN, and strings with lone surrogates.
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _path(template: str, parameters: list[str]) -> str:
    given = iter(parameters)
    parts = [
        quote(next(given).encode("utf-8", "replace")[:5000], safe="") if part.startswith("{") else part
        for part in template.split("/")
    ]
    return "/".join(parts)


#: Of all endpoints together. By the profile: 100, or in a soak 4,000.
EXAMPLES = 4 * settings().max_examples


def test_all_endpoints_of_accounts_are_tried() -> None:
    assert len(ENDPOINTS) > 35
    assert set(map(id, ROUTERS)) <= set(map(id, routes.ROUTERS))


@settings(max_examples=EXAMPLES)
@given(
    endpoint=st.sampled_from(ENDPOINTS),
    parameters=st.lists(_PARAMETER, min_size=3, max_size=3),
    query=st.dictionaries(st.sampled_from(["username", "kind", "access_token", "user_id"]), _PARAMETER, max_size=2),
    body=_BODY,
    logged_in=st.booleans(),
)
def test_no_input_makes_a_500(
    house: House, endpoint: tuple[str, str], parameters: list[str], query: dict[str, str], body: Any, logged_in: bool
) -> None:
    if not house.token:
        house.register("alice", device_id="DEVICE")
    method, template = endpoint
    # A log-out would end the session that the other examples need.
    headers = {"Authorization": f"Bearer {house.token}"} if logged_in and "logout" not in template else {}
    text = "&".join(f"{key}={quote(value.encode('utf-8', 'replace')[:5000])}" for key, value in query.items())
    url = f"{_path(template, parameters)}?{text}"
    response = house.client.request(method, url, content=_bytes(body), headers=headers)
    event(f"{method} {response.status_code}")
    # 502: the name is another server's, and none is reached from here.
    assert response.status_code < 500 or response.status_code == 502, response.text
    content = response.json()
    # The first answer of interactive authentication is the one 401 that is no error object.
    if response.status_code >= 400 and "flows" not in content:
        assert isinstance(content["error"], str)
        assert content["errcode"].startswith("M_")

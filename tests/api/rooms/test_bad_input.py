"""Whatever is sent to the endpoints of rooms, they answer with an error of the specification, never with a 500, and the
server goes on."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from annals.api.client import room_creation, room_membership, room_reading, room_receipts, room_sending, sync
from tests.support.server import LiveServer, User

_MODULES = (room_creation, room_membership, room_reading, room_receipts, room_sending)
ENDPOINTS = sorted(
    {(method, route.path) for module in _MODULES for route in module.router.routes for method in route.methods}
    | {(hot.method, hot.path) for module in (room_reading, room_sending, sync) for hot in module.HOT_ROUTES}
)
_ODD = [
    "\0",
    "%",
    "/",
    "ü",
    "\u2028",
    "'",
    "\\",
    "$",
    "#",
    "!",
    ":",
    "x" * 3_000,
    "\x01",
    "{}",
    " ",
    "0",
    "-1",
    "9" * 30,
]
_TYPES = ["m.room.message", "m.room.member", "m.room.power_levels", "m.room.create", "m.room.join_rules",
          "m.room.redaction", "m.room.history_visibility", "m.room.canonical_alias", "m.room.third_party_invite",
          "m.room.server_acl", "m.room.tombstone", "m.room.encryption", "m.read", "m.fully_read"]  # fmt: skip
#: Stand for what the room of the test has.
ROOM, EVENT, ME, OTHER, TOKEN = "<room>", "<event>", "<me>", "<other>", "<token>"
_NAMES = [ROOM, EVENT, ME, OTHER, TOKEN, *_TYPES, "#a:test", "@nobody:test", "!none:test", "$none", "t1-2", "join"]
_ANY_NAME = st.one_of(st.sampled_from(_NAMES), st.sampled_from(_ODD), st.text(max_size=8))


def _mostly(name: str, times: int) -> st.SearchStrategy[str]:
    """That name `times` times as often as another one."""
    return st.integers(0, times).flatmap(lambda number: st.just(name) if number else _ANY_NAME)


_PARAMETERS: dict[str, st.SearchStrategy[str]] = {
    "room_id": _mostly(ROOM, 6),
    "name": _mostly(ROOM, 2),
    "event_id": _mostly(EVENT, 2),
    "user_id": _mostly(ME, 2),
    "type": st.one_of(st.sampled_from(_TYPES), _ANY_NAME),
    "receipt_type": st.sampled_from(["m.read", "m.read.private", "m.fully_read", "x"]),
}
_LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(_NAMES + _ODD), st.text(max_size=6),
    st.sampled_from([2**53, 2**64, -(2**63), 10**400]),
)  # fmt: skip
_JSON = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ANY_NAME, inner, max_size=3), max_leaves=6
)
_KEYS = [
    *("membership", "reason", "user_id", "redacts", "m.relates_to", "join_rule", "allow", "users", "events", "ban"),
    *("history_visibility", "alias", "alt_aliases", "typing", "timeout", "thread_id", "m.read", "m.fully_read"),
    *("third_party_invite", "third_party_signed", "join_authorised_via_users_server", "body", "url", "displayname"),
    *("preset", "visibility", "invite", "room_version", "initial_state", "creation_content", "name", "topic"),
    *("power_level_content_override", "room_alias_name", "is_direct", "invite_3pid", "additional_creators", "deny"),
]
_RELATION = st.fixed_dictionaries({}, optional={"rel_type": _JSON, "event_id": _JSON, "key": _JSON})
_OBJECT = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(_KEYS, _JSON)
    | {
        "membership": st.one_of(st.sampled_from(["join", "invite", "leave", "ban", "knock"]), _JSON),
        "m.relates_to": st.one_of(_RELATION, _JSON),
        "user_id": st.one_of(st.sampled_from([ME, OTHER]), _JSON),
        "typing": st.one_of(st.booleans(), _JSON),
        "preset": st.one_of(st.just("public_chat"), _JSON),
        "room_version": st.one_of(st.sampled_from(["10", "11", "12"]), _JSON),
        "users": st.dictionaries(_ANY_NAME, _JSON, max_size=3),
    },
)
#: What no event can hold would be refused at once: such values come in one body of three.
_WHOLE = st.one_of(st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), _ANY_NAME)
_SHALLOW = st.one_of(_WHOLE, st.lists(_WHOLE, max_size=3), st.dictionaries(_ANY_NAME, _WHOLE, max_size=3))
_PLAIN = st.dictionaries(st.sampled_from(_KEYS), _SHALLOW, max_size=4)
_MEANT = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.sampled_from([ME, OTHER]),
        "membership": st.sampled_from(["join", "ban"]),
        "reason": _ANY_NAME,
        "typing": st.booleans(),
        **dict.fromkeys(["m.read", "m.fully_read", "redacts"], st.just(EVENT)),
    },
)
_BODY = st.one_of(
    st.one_of(_OBJECT, _JSON), _PLAIN, st.tuples(_PLAIN, _MEANT).map(lambda two: {**two[0], **two[1]}), _MEANT
)
_QUERY_VALUES: dict[str, st.SearchStrategy[str]] = {
    **dict.fromkeys(["to", "at", "membership", "not_membership", "format", "timeout", "full_state"], _ANY_NAME),
    "dir": _ANY_NAME,
    "limit": st.one_of(st.integers(-2, 2_000).map(str), _ANY_NAME),
    "filter": st.one_of(_ANY_NAME, st.sampled_from(['{"types":["\\u0000"]}', '{"senders":[""]}', '{"limit":0}'])),
    "from": st.one_of(st.just(TOKEN), st.just("t3-0"), _ANY_NAME),
    "since": st.one_of(st.just(TOKEN), _ANY_NAME),
}
_QUERY = st.lists(st.sampled_from(sorted(_QUERY_VALUES)), max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({"dir": st.sampled_from("bf"), **{name: _QUERY_VALUES[name] for name in names}})
)


#: For each endpoint. By the profile: 10, or in a soak 400.
EXAMPLES = 2 * settings().max_examples // 5


@pytest.fixture
def world(server: LiveServer) -> tuple[User, dict[str, str]]:
    """A room with two people, and what the placeholders stand for."""
    alice, bob = server.user("alice"), server.user("bob")
    room = alice.create_room(preset="public_chat")
    bob.join(room)
    names = {ROOM: room, EVENT: alice.say(room, "x"), ME: alice.id, OTHER: bob.id, TOKEN: alice.sync()["next_batch"]}
    return alice, names


@settings(max_examples=EXAMPLES)
@given(data=st.data())
@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_no_500(world: tuple[User, dict[str, str]], method: str, path: str, data: st.DataObject) -> None:
    alice, names = world
    parts = []
    for part in path.split("/"):
        if part.startswith("{"):
            value = data.draw(_PARAMETERS.get(part[1:-1].partition(":")[0], _ANY_NAME))
            part = quote(names.get(value, value), safe="") or "x"
        parts.append(part)
    params = {key: names.get(value, value) for key, value in data.draw(_QUERY).items()} if method == "GET" else {}
    body = None if method == "GET" else _filled(data.draw(_BODY), names)
    content = None if body is None else _text(body)
    response = alice.server.request(method, "/".join(parts), token=alice.token, params=params, content=content)
    event(f"{method} {path} {response.status_code}")
    assert response.status_code < 500, response.text
    if response.status_code != 200:
        assert response.json()["errcode"].startswith("M_")


def test_the_server_goes_on(server: LiveServer) -> None:
    alice = server.user("alice")
    assert alice.say(alice.create_room(), "still here")
    halted = server.database.read_now(lambda snapshot: snapshot.rows("SELECT room_id, error FROM halted_rooms"))
    assert halted == []


def test_every_endpoint_is_there() -> None:
    assert len(ENDPOINTS) > 25
    assert ("PUT", "/_matrix/client/v3/rooms/{room_id}/send/{type}/{transaction_id}") in ENDPOINTS


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {names.get(key, key): _filled(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()

"""An OpenAPI description of the client API as this server has it: paths from the app's own routes, and what we know of
parameters and bodies beside them. For generating requests that are nearly right; it documents nothing.

Values in capitals (`ROOM`, `EVENT` …) stand for what only a running server knows: see `filled`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from annals.api import routes

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
OBJECT: Schema = {"type": "object"}
NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": 100}


def _one_of(*values: str) -> Schema:
    """One of these, now and then an odd string."""
    return {"type": "string", "enum": [*values, "\u0000\u00e9/ %"]}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of, "maxItems": 4}


def _body(required: str = "", **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required.split()}


_USER, _ROOM, _EVENT = _one_of("USER", "OTHER", "@none:nowhere"), _one_of("ROOM", "!none:x"), _one_of("EVENT", "$none")
_MEMBERSHIP = _one_of("join", "invite", "knock", "leave", "ban")
_TOKEN = _one_of("SINCE", "PAGE", "t1-2", "s1_AAAA")
_IDENTIFIER = _body(type=_one_of("m.id.user"), user=_USER)
_EVENT_FILTER = _body(
    limit=NUMBER,
    types=_list(_one_of("m.room.*", "*")),
    not_types=_list(STRING),
    senders=_list(_USER),
    not_senders=_list(_USER),
    rooms=_list(_ROOM),
    not_rooms=_list(_ROOM),
    contains_url=BOOLEAN,
    lazy_load_members=BOOLEAN,
)
_ROOM_FILTER = _body(timeline=_EVENT_FILTER, state=_EVENT_FILTER, ephemeral=_EVENT_FILTER, include_leave=BOOLEAN)
_FILTER = _body(room=_ROOM_FILTER, account_data=_EVENT_FILTER, event_fields=_list(_one_of("content.body", "type")))
_MESSAGE = {"anyOf": [_body(msgtype=_one_of("m.text"), body=STRING), OBJECT]}
_CONTENT = {
    "anyOf": [
        OBJECT,
        _body(membership=_MEMBERSHIP, reason=STRING),
        _body(users={"type": "object", "additionalProperties": NUMBER}, users_default=NUMBER, events=OBJECT),
        _body(topic=STRING, name=STRING, alias=_one_of("#a:localhost"), alt_aliases=_list(STRING)),
    ]
}
_TARGET = _body("user_id", user_id=_USER, reason=STRING)
_REASON = _body(reason=STRING)

_PARAMETERS: Mapping[str, Schema] = {
    "room_id": {"type": "string", "enum": ["ROOM"]},
    "user_id": _USER,
    "event_id": _EVENT,
    "alias": _one_of("#none:localhost", "ALIAS"),
    "name": _one_of("ROOM", "ALIAS", "!none:x", "#none:localhost"),
    "type": _one_of("m.room.message", "m.room.topic", "m.room.member", "m.room.power_levels", "m.room.redaction"),
    "state_key": _one_of("USER", "OTHER", "x"),
    "field": _one_of("displayname", "avatar_url", "m.tz"),
    "filter_id": _one_of("FILTER", "0"),
    "device_id": _one_of("DEVICE"),
    "receipt_type": _one_of("m.read", "m.read.private", "m.fully_read"),
    "relation": _one_of("m.annotation", "m.thread"),
    "kind": _one_of("override", "underride", "content"),
    "rule_id": _one_of(".m.rule.master"),
}

_QUERIES: Mapping[str, Mapping[str, Schema]] = {
    "GET /sync": {
        "since": _TOKEN,
        "timeout": {"type": "integer", "minimum": -1, "maximum": 5},
        "filter": _one_of(
            "{}", "FILTER", '{"room":{"timeline":{"limit":1}}}', '{"room":{"timeline":{"limit":"1"}}}', "{"
        ),
        "full_state": BOOLEAN,
        "use_state_after": BOOLEAN,
        "set_presence": _one_of("offline"),
    },
    "GET /rooms/{room_id}/messages": {
        "dir": _one_of("b", "f"),
        "from": _TOKEN,
        "to": _TOKEN,
        "limit": NUMBER,
        "filter": _one_of("{}", '{"types":["m.*"],"lazy_load_members":true}', '{"types":1}'),
    },
    "GET /rooms/{room_id}/context/{event_id}": {"limit": NUMBER, "filter": _one_of("{}", "[]")},
    "GET /rooms/{room_id}/members": {"at": _TOKEN, "membership": _MEMBERSHIP, "not_membership": _MEMBERSHIP},
    "GET /rooms/{room_id}/state/{type}": {"format": _one_of("content", "event")},
    "GET /rooms/{room_id}/relations/{event_id}": {"dir": _one_of("b", "f"), "from": _TOKEN, "limit": NUMBER},
    "GET /register/available": {"username": STRING},
    "POST /register": {"kind": _one_of("user", "guest")},
}

_BODIES: Mapping[str, Schema] = {
    "POST /login": _body(
        "type",
        type=_one_of("m.login.password"),
        identifier=_IDENTIFIER,
        user=_USER,
        password=STRING,
        device_id=STRING,
        initial_device_display_name=STRING,
    ),
    "POST /register": _body(
        auth=_body(type=_one_of("m.login.dummy"), session=STRING),
        # Without a good name and a password nobody is registered: an account costs much.
        username=_one_of("UPPER CASE", ""),
        device_id=STRING,
        inhibit_login=BOOLEAN,
    ),
    "POST /createRoom": _body(
        visibility=_one_of("private", "public"),
        room_alias_name=STRING,
        name=STRING,
        topic=STRING,
        invite=_list(_USER),
        room_version=_one_of("10", "11", "12"),
        creation_content=OBJECT,
        initial_state=_list(_body("type content", type=STRING, content=OBJECT, state_key=STRING)),
        preset=_one_of("private_chat", "public_chat", "trusted_private_chat"),
        is_direct=BOOLEAN,
        power_level_content_override=_CONTENT,
    ),
    "POST /user/{user_id}/filter": _FILTER,
    "PUT /profile/{user_id}/{field}": _body(displayname=STRING, avatar_url=STRING),
    "PUT /directory/room/{alias}": _body("room_id", room_id=_ROOM),
    "PUT /directory/list/room/{room_id}": _body(visibility=_one_of("public", "private")),
    "PUT /rooms/{room_id}/send/{type}/{transaction_id}": _MESSAGE,
    "PUT /rooms/{room_id}/state/{type}": _CONTENT,
    "PUT /rooms/{room_id}/state/{type}/{state_key}": _CONTENT,
    "PUT /rooms/{room_id}/redact/{event_id}/{transaction_id}": _REASON,
    "PUT /rooms/{room_id}/typing/{user_id}": _body("typing", typing=BOOLEAN, timeout=NUMBER),
    "POST /rooms/{room_id}/receipt/{receipt_type}/{event_id}": _body(thread_id=_one_of("main", "EVENT")),
    "POST /rooms/{room_id}/read_markers": {
        "type": "object",
        "properties": {"m.fully_read": _EVENT, "m.read": _EVENT, "m.read.private": _EVENT},
    },
    **{f"POST /rooms/{{room_id}}/{action}": _TARGET for action in ("invite", "kick", "ban", "unban")},
    **{f"POST /rooms/{{room_id}}/{action}": _REASON for action in ("join", "leave", "forget")},
    "POST /join/{name}": _REASON,
    "POST /knock/{name}": _REASON,
}


def description() -> Schema:
    """The OpenAPI document."""
    paths: dict[str, Schema] = {}
    for method, path in sorted(set(_routes())):
        paths.setdefault(path, {})[method.lower()] = _operation(method, path)
    return {"openapi": "3.1.0", "info": {"title": "client API", "version": "1"}, "paths": paths}


def _routes() -> Iterator[tuple[str, str]]:
    """(method, path) of every route of clients, hot or not; the framework's converters taken out."""
    found = [(method, route.path) for router in routes.ROUTERS for route in router.routes for method in route.methods]  # type: ignore[attr-defined]
    found += [(hot.method, hot.path) for hot in routes.HOT_ROUTES]
    for method, path in found:
        if path.startswith("/_matrix/client/"):
            yield method, re.sub(r"\{(\w+):\w+\}", r"{\1}", path)


def _operation(method: str, path: str) -> Schema:
    name = f"{method} {re.sub('^/_matrix/client/v[0-9]+', '', path)}"
    parameters = [
        {"name": parameter, "in": "path", "required": True, "schema": _PARAMETERS.get(parameter, STRING)}
        for parameter in re.findall(r"\{(\w+)\}", path)
    ]
    parameters += [
        {"name": key, "in": "query", "required": key == "dir", "schema": schema}
        for key, schema in _QUERIES.get(name, {}).items()
    ]
    operation: Schema = {"parameters": parameters, "responses": {"200": {"description": "OK"}}}
    if method in ("POST", "PUT"):
        schema = _BODIES.get(name, OBJECT)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """A generated value with the real names of things in the place of those in capitals."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    return [filled(inner, names) for inner in value] if isinstance(value, list) else value

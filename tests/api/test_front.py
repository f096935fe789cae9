"""What every request passes: exact paths, errors, CORS, the gate, limits of bodies, hot routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.app import make_app
from annals.api.auth.limits import Limits, Rate
from annals.api.bodies import BODY_BYTES_MAX, query_bool, query_int, read_object
from annals.api.errors import forbidden
from annals.api.hot import HotRoute, HotRoutes
from annals.commands.errors import Refused, TryAgain
from annals.database.errors import DatabaseBusy, StatementFailed
from annals.eventlog.errors import AppendFailed, BackPressure
from annals.queries.errors import BadPlace, NoAccess, NotThere, NotYet
from tests.support.accounts_house import House
from tests.support.patience import PATIENCE_S

CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": "X-Requested-With, Content-Type, Authorization",
}


async def _ask(
    app: FastAPI, method: str, raw_path: bytes, body: bytes | list[bytes] = b"", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request with exactly this path on the wire."""
    chunks = [body] if isinstance(body, bytes) else body
    path, _, query = raw_path.partition(b"?")
    scope = {
        "type": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "state": {},
    }
    incoming = [{"type": "http.request", "body": c, "more_body": True} for c in chunks]
    incoming.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    got = {name.decode(): value.decode() for name, value in sent[0].get("headers", ())}
    return sent[0]["status"], got, b"".join(message.get("body", b"") for message in sent[1:])


def ask(app: FastAPI, method: str, raw_path: bytes, *args: Any, **more: Any) -> tuple[int, dict[str, str], Any]:
    """(status, headers, JSON)."""
    status, headers, text = asyncio.run(_ask(app, method, raw_path, *args, **more))
    return status, headers, orjson.loads(text) if text else None


def echo_router() -> APIRouter:
    """Endpoints that tell what they were given."""
    router = APIRouter()

    @router.get("/_matrix/client/v3/echo/{room_id:id}/state/{type:id}/{state_key:id0}")
    async def echo(room_id: str, type: str, state_key: str) -> Response:
        return answer([room_id, type, state_key])

    @router.put("/_matrix/client/v3/body")
    async def body(request: Request) -> Response:
        return answer(await read_object(request))

    @router.get("/_matrix/client/v3/query")
    async def query(request: Request) -> Response:
        return answer([query_int(request, "limit", 10, at_least=1), query_bool(request, "flag")])

    return router


@pytest.fixture(scope="module")
def house(shared_house: House) -> House:
    """One for all: each test puts an app of its own before it."""
    return shared_house


@pytest.fixture
def app(house: House) -> FastAPI:
    """An app of echoing endpoints."""
    return make_app(house.services, [echo_router()], [])


def test_unknown_paths_and_methods(house: House) -> None:
    app = house.app()
    for path in (b"/_matrix/client/v3/nonsense", b"/", b"/_matrix/client/v3/login/", b"/%00", b"/%ff", b"//"):
        status, headers, content = ask(app, "GET", path)
        assert (status, content["errcode"]) == (404, "M_UNRECOGNIZED"), path
        assert headers.items() >= CORS.items()
    status, headers, content = ask(app, "DELETE", b"/_matrix/client/v3/login")
    assert (status, content["errcode"]) == (405, "M_UNRECOGNIZED")
    assert headers.items() >= CORS.items()


def test_cors_on_answers_errors_and_preflights(house: House) -> None:
    app = house.app()
    status, headers, content = ask(app, "OPTIONS", b"/_matrix/client/v3/register")
    assert (status, content) == (204, None)
    assert headers.items() >= CORS.items()
    assert ask(app, "GET", b"/_matrix/client/versions")[1].items() >= CORS.items()
    assert ask(app, "GET", b"/_matrix/client/v3/account/whoami")[1].items() >= CORS.items()
    assert ask(app, "GET", b"/.well-known/matrix/client")[1].items() >= CORS.items()
    assert CORS.keys().isdisjoint(ask(app, "GET", b"/_matrix/federation/v1/version")[1])


def test_each_segment_is_decoded_by_itself(app: FastAPI) -> None:
    base = b"/_matrix/client/v3/echo/"
    cases: dict[bytes, list[str]] = {
        b"!r%3Ax/state/m.t/k": ["!r:x", "m.t", "k"],
        b"!a%2Fb%3Ax/state/m%2Ft/": ["!a/b:x", "m/t", ""],
        b"!a%252Fb/state/t/%2525": ["!a%2Fb", "t", "%25"],
        b"%00/state/%C3%BC/+%20%": ["\0", "ü", "+ %"],
        "!ü/state/t/k".encode(): ["!ü", "t", "k"],
    }
    for path, expected in cases.items():
        assert ask(app, "GET", base + path)[::2] == (200, expected), path
    status, _, content = ask(app, "GET", base + b"%ff/state/t/k")
    assert (status, content["errcode"]) == (400, "M_INVALID_PARAM")
    assert ask(app, "GET", base + b"!r/state/t/k/")[0] == 404
    # Clients of before v1.1.
    assert ask(app, "GET", b"/_matrix/client/r0/echo/!r/state/t/k")[2] == ["!r", "t", "k"]


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", "M_NOT_JSON"),
        (b"{", "M_NOT_JSON"),
        (b"\xff", "M_NOT_JSON"),
        (b'{"a": "\xed\xa0\x80"}', "M_NOT_JSON"),
        (b'{"a": "\\ud800"}', "M_NOT_JSON"),
        (b'{"a": NaN}', "M_NOT_JSON"),
        (b'{"a": 1} x', "M_NOT_JSON"),
        (b"[" * 100_000, "M_NOT_JSON"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b"null", "M_BAD_JSON"),
        (b'"x"', "M_BAD_JSON"),
        (b"1", "M_BAD_JSON"),
    ],
)
def test_bodies_that_are_no_json_object(app: FastAPI, body: bytes, errcode: str) -> None:
    status, _, content = ask(app, "PUT", b"/_matrix/client/v3/body", body)
    assert (status, content["errcode"]) == (400, errcode)


def test_odd_bodies_that_are_json_objects(app: FastAPI) -> None:
    path = b"/_matrix/client/v3/body"
    assert ask(app, "PUT", path, b'{"a": "\\u0000", "a": 2}')[::2] == (200, {"a": 2})
    assert ask(app, "PUT", path, b'{"nul\\u0000": "\\u0000"}')[::2] == (200, {"nul\0": "\0"})
    text = asyncio.run(_ask(app, "PUT", path, b'{"n":123456789012345678901234567890}'))[2]
    assert text == b'{"n":123456789012345678901234567890}'
    # Whatever the content type says.
    typed = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(app, "PUT", path, b'{"a": 1}', headers=typed)[::2] == (200, {"a": 1})


def test_a_body_that_is_too_long_is_not_read_to_its_end(app: FastAPI) -> None:
    path = b"/_matrix/client/v3/body"
    status, _, content = ask(app, "PUT", path, b"{}", headers={"Content-Length": str(10 * 1024**3)})
    assert (status, content["errcode"]) == (413, "M_TOO_LARGE")
    # Without a length there are chunks: the rest of them is not asked for.
    chunks = [b" " * 65_536] * (2 * BODY_BYTES_MAX // 65_536)
    assert ask(app, "PUT", path, chunks)[0] == 413
    assert ask(app, "PUT", path, [b'{"a":', b"1}"])[2] == {"a": 1}


def test_query_parameters(app: FastAPI) -> None:
    path = b"/_matrix/client/v3/query"
    assert ask(app, "GET", path)[2] == [10, False]
    assert ask(app, "GET", path + b"?limit=3&flag=true&other=%00")[2] == [3, True]
    for query in (
        b"?limit=0",
        b"?limit=-1",
        b"?limit=x",
        b"?limit=",
        b"?limit=%C2%B2",
        b"?limit=" + b"9" * 5000,
        b"?flag=1",
    ):
        status, _, content = ask(app, "GET", path + query)
        assert (status, content["errcode"]) == (400, "M_INVALID_PARAM"), query


def _raising(error: Exception) -> Callable[[Request, dict[str, str]], Any]:
    async def endpoint(_: Request, __: dict[str, str]) -> bytes:
        raise error

    return endpoint


@pytest.mark.parametrize(
    ("error", "status", "errcode"),
    [
        (forbidden("no"), 403, "M_FORBIDDEN"),
        (Refused(409, "M_UNKNOWN", "taken"), 409, "M_UNKNOWN"),
        (TryAgain("later"), 503, "M_UNKNOWN"),
        (DatabaseBusy("full"), 503, "M_UNKNOWN"),
        (BackPressure("full"), 503, "M_UNKNOWN"),
        (AppendFailed("disk"), 503, "M_UNKNOWN"),
        (TimeoutError(), 503, "M_UNKNOWN"),
        (NotYet("behind"), 503, "M_UNKNOWN"),
        (NoAccess("who"), 403, "M_FORBIDDEN"),
        (NotThere("what"), 404, "M_NOT_FOUND"),
        (BadPlace("where"), 400, "M_INVALID_PARAM"),
        (StatementFailed("bug", "42601"), 500, "M_UNKNOWN"),
        (KeyError("bug"), 500, "M_UNKNOWN"),
    ],
)
def test_what_an_exception_becomes(
    house: House, caplog: pytest.LogCaptureFixture, error: Exception, status: int, errcode: str
) -> None:
    """On a hot route and on one of the framework alike."""
    path = "/_matrix/client/v3/raise"
    endpoint = _raising(error)
    router = APIRouter()

    @router.get(path)
    async def cold(request: Request) -> Response:
        raise error

    apps = [make_app(house.services, [], [HotRoute("GET", path, endpoint)]), make_app(house.services, [router], [])]
    for app in apps:
        caplog.clear()
        with caplog.at_level(logging.ERROR, "annals.api"):
            got, headers, content = ask(app, "GET", path.encode())
        assert (got, content["errcode"]) == (status, errcode)
        assert headers.items() >= CORS.items()
        assert ("retry-after" in headers) == (status == 503)
        assert bool(caplog.records) == (status == 500)


def test_before_the_tables_caught_up_only_open_endpoints_answer(house: House) -> None:
    token = house.register("alice")["access_token"]
    app = house.app(serving=lambda: False)
    for path in (b"/_matrix/client/versions", b"/_matrix/key/v2/server"):
        assert ask(app, "GET", path)[0] == 200
    closed = [
        b"/_matrix/client/v3/account/whoami",
        b"/_matrix/client/v3/nonsense",
        b"/_matrix/federation/v1/version",
        b"/_matrix/client/v3/profile/@alice:test",
    ]
    for path in closed:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {token}"}):
            status, got, content = ask(app, "GET", path, headers=headers)
            assert (status, content["errcode"]) == (503, "M_UNKNOWN")
            assert "retry-after" in got


def test_who_comes_while_it_starts_is_served_late(house: House) -> None:
    looks = iter([False, False, False])
    settings = replace(house.services.settings, starting_wait_s=PATIENCE_S)
    app = house.app(serving=lambda: next(looks, True), settings=settings)
    assert asyncio.run(_ask(app, "GET", b"/_matrix/client/v3/login"))[0] == 200
    assert next(looks, None) is None


async def _hot(request: Request, parameters: dict[str, str]) -> bytes:
    return orjson.dumps([parameters, request.query_params.get("q")])


def test_hot_routes_are_found_by_their_exact_shape(house: House) -> None:
    routes = [
        HotRoute("PUT", "/_matrix/client/v3/rooms/{room_id}/send/{type}/{txn_id}", _hot),
        HotRoute("PUT", "/_matrix/client/v3/rooms/{room_id}/state/{type}/{state_key}", _hot),
        HotRoute("GET", "/_matrix/client/v3/sync", _hot),
    ]
    app = make_app(house.services, [], routes)
    status, headers, content = ask(app, "PUT", b"/_matrix/client/v3/rooms/!a%2Fb/send/m.t/%C3%BC?q=1")
    assert (status, content) == (200, [{"room_id": "!a/b", "type": "m.t", "txn_id": "ü"}, "1"])
    assert headers["content-type"] == "application/json"
    assert headers.items() >= CORS.items()
    assert ask(app, "PUT", b"/_matrix/client/v3/rooms/!a/state/m.t/k")[2][0]["state_key"] == "k"
    assert ask(app, "GET", b"/_matrix/client/r0/sync")[0] == 200
    for method, path in [
        ("GET", b"/_matrix/client/v3/rooms/!a/send/m.t/1"),
        ("PUT", b"/_matrix/client/v3/rooms/!a/send/m.t/"),
        ("PUT", b"/_matrix/client/v3/rooms/!a/sent/m.t/1"),
        ("PUT", b"/_matrix/client/v3/rooms/!a/send/m.t/1/2"),
        ("GET", b"/_matrix/client/v3/sync/"),
    ]:
        assert ask(app, method, path)[0] == 404, path
    assert ask(app, "PUT", b"/_matrix/client/v3/rooms/%ff/send/m.t/1")[0] == 400
    assert HotRoutes([]).find("GET", "/_matrix/client/v3/sync") is None


def test_limits_by_address(house: House) -> None:
    limits = Limits(house.clock, {"login": Rate(per_second=0.5, burst=2)})
    app = make_app(replace(house.services, limits=limits))
    body = orjson.dumps({"type": "m.login.password", "user": "nobody", "password": "x"})
    statuses = [ask(app, "POST", b"/_matrix/client/v3/login", body)[0] for _ in range(2)]
    assert statuses == [403, 403]
    status, headers, content = ask(app, "POST", b"/_matrix/client/v3/login", body)
    assert (status, content["errcode"]) == (429, "M_LIMIT_EXCEEDED")
    assert 0 < content["retry_after_ms"] <= 2001
    assert 1 <= int(headers["retry-after"]) <= 3
    house.times.now_ms += content["retry_after_ms"]
    assert ask(app, "POST", b"/_matrix/client/v3/login", body)[0] == 403

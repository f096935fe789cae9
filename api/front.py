"""The front: what every request passes before the framework, and every answer after it.

    request ─▶ id, exact path ─▶ OPTIONS? ─▶ gate ─▶ hot route? ─yes─▶ endpoint ─▶ bytes
                                                        └─no─▶ framework ─▶ endpoint ─▶ response
    any exception ─▶ the error object (500 only for a bug, logged with the request's id)
    any answer    ─▶ CORS headers, metrics

Plain ASGI, since each layer of the framework's own middleware costs a task or a stream a request.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annals.api.answers import JSON_TYPE, error_answer
from annals.api.auth.uia import AuthenticationNeeded, needed_answer
from annals.api.errors import ApiError, as_api_error, not_now
from annals.api.hot import HotRoutes
from annals.api.metrics import observe
from annals.api.services import Services

_log = logging.getLogger(__name__)

# "The recommended CORS headers to be returned by servers on all requests"
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"X-Requested-With, Content-Type, Authorization"),
]
_PREFLIGHT: Message = {"type": "http.response.start", "status": 204, "headers": _CORS}

# What other servers call: no browser needs headers there.
_WITHOUT_CORS = ("/_matrix/federation/", "/_matrix/key/")

# Answered before the tables have caught up: none of these reads them.
_OPEN = frozenset(["/_matrix/client/versions", "/_matrix/key/v2/server", "/health", "/ready", "/metrics"])
# Only while the process starts.
_LOOK_AGAIN_S = 0.05
_JSON_HEADER = (b"content-type", JSON_TYPE.encode())

# Clients of before v1.1 say r0 where v3 is said since.
_LEGACY_PREFIX = "/_matrix/client/r0/"


class Front:
    """Outermost middleware of the app."""

    def __init__(self, app: ASGIApp, services: Services, hot: HotRoutes) -> None:
        self._app, self._services, self._hot = app, services, hot
        self._process = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = _exact_path(scope)
        scope["annals.request_id"] = f"{self._process}-{next(self._numbers)}"
        if scope["method"] == "OPTIONS":
            # "the server MUST NOT perform any logic defined for the endpoints when approached with an OPTIONS request"
            await send(_PREFLIGHT)
            await send({"type": "http.response.body", "body": b""})
            return
        answering = _Answering(send, cors=not path.startswith(_WITHOUT_CORS))
        began = time.perf_counter()
        try:
            await self._serve(scope, path, receive, answering)
        except Exception as error:
            await _answer_error(error, scope, receive, answering)
        observe(scope, answering.status, time.perf_counter() - began)

    async def _wait_until_serving(self) -> None:
        """A start takes seconds: who asks meanwhile is better served late than sent away. Raises ApiError (503)."""
        deadline = time.monotonic() + self._services.settings.starting_wait_s
        while not self._services.serving():
            if time.monotonic() >= deadline or self._services.stopping.is_set():
                raise not_now("The server is starting: its tables have not caught up with its log yet")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _serve(self, scope: Scope, path: str, receive: Receive, answering: _Answering) -> None:
        if path not in _OPEN and not self._services.serving():
            await self._wait_until_serving()
        found = self._hot.find(scope["method"], path)
        if found is None:
            await self._app(scope, receive, answering)
            return
        route, parameters = found
        scope["annals.route"] = route.path
        result = await route.endpoint(Request(scope, receive), parameters)
        if isinstance(result, bytes):
            await answering.json(result)
        else:
            await result(scope, receive, answering)


class _Answering:
    """`send` with the headers that every answer carries; remembers whether an answer has begun."""

    __slots__ = ("_cors", "_send", "status")

    def __init__(self, send: Send, cors: bool) -> None:
        self._send, self._cors = send, cors
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._cors:
                message["headers"] = [*message.get("headers", ()), *_CORS]
        await self._send(message)

    async def json(self, body: bytes) -> None:
        """A 200 with this JSON text."""
        headers = [_JSON_HEADER, (b"content-length", str(len(body)).encode("ascii"))]
        await self({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


async def _answer_error(error: Exception, scope: Scope, receive: Receive, answering: _Answering) -> None:
    if answering.status:
        # Too late for another answer; the server closes the connection.
        _log.error("request %s failed in the middle of its answer", scope["annals.request_id"], exc_info=error)
        raise error
    await _response_to(error, scope)(scope, receive, answering)


def _response_to(error: Exception, scope: Scope) -> Response:
    if isinstance(error, AuthenticationNeeded):
        return needed_answer(error)
    if (known := as_api_error(error)) is not None:
        return error_answer(known)
    request_id = scope["annals.request_id"]
    _log.error("request %s (%s) failed", request_id, scope["method"], exc_info=error)
    return error_answer(ApiError(500, "M_UNKNOWN", f"Internal error; the server's log has it as {request_id}"))


def _exact_path(scope: Scope) -> str:
    """The path as on the wire, percent-encoded, put where the framework looks for it."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    path = raw.partition(b"?")[0].decode("latin-1")
    if path.startswith(_LEGACY_PREFIX):
        path = "/_matrix/client/v3/" + path[len(_LEGACY_PREFIX) :]
    scope["path"] = path
    return path

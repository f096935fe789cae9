"""Requests of other servers: who sent them (X-Matrix), and what they carry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from annals.api.bodies import as_object, parse_json, read_bytes
from annals.api.errors import ApiError
from annals.api.services import Services, services_of
from annals.ingest.requests import RequestRefused

#: 50 PDUs and 100 EDUs of 64 KiB each, and what stands around them.
SERVER_BODY_BYTES_MAX = 12 << 20


@dataclass(frozen=True, slots=True)
class FromServer:
    """A request of another server. `content`: its body, {} where there was none."""

    origin: str
    content: dict[str, Any]


async def authenticate_server(request: Request, services: Services) -> FromServer:
    """The request's sender and body; 401 M_UNAUTHORIZED. For hot endpoints, which call it themselves."""
    body = await read_bytes(request, SERVER_BODY_BYTES_MAX)
    content = as_object(parse_json(body)) if body else None
    # What was signed is the target as it stood in the request line.
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope.get("query_string") or b""
    target = raw.split(b"?", 1)[0] + (b"?" + query if query else b"")
    try:
        origin = await services.requests.origin_of(
            request.method, target.decode("latin-1"), request.headers.getlist("authorization"), content
        )
    except RequestRefused as error:
        raise ApiError(401, "M_UNAUTHORIZED", str(error)) from None
    return FromServer(origin, content or {})


async def server_of(request: Request) -> FromServer:
    """`authenticate_server` as a dependency."""
    return await authenticate_server(request, services_of(request))


WithServer = Annotated[FromServer, Depends(server_of)]


async def server_in_turn(request: Request) -> AsyncIterator[FromServer]:
    """The same, holding one of the server's turns until the answer is made."""
    services = services_of(request)
    sent = await authenticate_server(request, services)
    async with services.turns.of(sent.origin):
        yield sent


#: For endpoints whose answer is a large part of a room.
InTurn = Annotated[FromServer, Depends(server_in_turn)]

"""The published rooms of this server and its spaces, for other servers ("Published Room Directory", "Spaces")."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.server import WithServer
from annals.api.bodies import query_bool
from annals.api.directory_body import wanted_in_body, wanted_in_query
from annals.api.services import WithServices

router = APIRouter()

_BASE = "/_matrix/federation/v1"


@router.get(_BASE + "/publicRooms")
async def public_rooms(request: Request, services: WithServices, _: WithServer) -> Response:
    """GET /_matrix/federation/v1/publicRooms."""
    return answer(await services.public_rooms.page(wanted_in_query(request)))


@router.post(_BASE + "/publicRooms")
async def search_public_rooms(services: WithServices, server: WithServer) -> Response:
    """POST /_matrix/federation/v1/publicRooms."""
    return answer(await services.public_rooms.page(wanted_in_body(server.content)))


@router.get(_BASE + "/hierarchy/{room_id:id}")
async def hierarchy(room_id: str, request: Request, services: WithServices, server: WithServer) -> Response:
    """GET /_matrix/federation/v1/hierarchy/{roomId}."""
    suggested_only = query_bool(request, "suggested_only")
    return answer(await services.spaces.for_server(server.origin, room_id, suggested_only))

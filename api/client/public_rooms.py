"""The directory of published rooms and the rooms of spaces ("Published room directory", "Spaces")."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester, authenticate
from annals.api.bodies import query_bool, query_int, read_object
from annals.api.directory_body import wanted_in_body, wanted_in_query
from annals.api.errors import ApiError, invalid_param
from annals.api.services import Services, WithServices
from annals.federation.errors import FederationError, Refused
from annals.matrix.identifiers import is_server_name
from annals.queries.public_rooms import DirectoryWanted
from annals.queries.space_walk import LIMIT_DEFAULT, WalkWanted

router = APIRouter()

_PATH = "/_matrix/client/v3/publicRooms"


@router.get(_PATH)
async def public_rooms(request: Request, services: WithServices) -> Response:
    """GET /_matrix/client/v3/publicRooms. Without a token only for this server's own rooms."""
    wanted = wanted_in_query(request)
    return await _page(request, services, wanted, _content(wanted))


@router.post(_PATH)
async def search_public_rooms(request: Request, services: WithServices, requester: WithRequester) -> Response:
    """POST /_matrix/client/v3/publicRooms."""
    content = await read_object(request, empty_ok=True)
    wanted = wanted_in_body(content)
    searched = {"filter": content["filter"]} if isinstance(content.get("filter"), dict) else {}
    return await _page(request, services, wanted, _content(wanted) | searched)


async def _page(request: Request, services: Services, wanted: DirectoryWanted, content: dict[str, Any]) -> Response:
    server = request.query_params.get("server")
    if not server or server == services.settings.server_name:
        return answer(await services.public_rooms.page(wanted))
    # Strangers do not make this server ask others.
    await authenticate(request, services)
    if not is_server_name(server):
        raise invalid_param("server is no server name")
    try:
        return answer(await services.remote_rooms.public_rooms(server, content))
    except Refused as error:
        if error.status in (403, 404):
            raise ApiError(error.status, error.errcode or "M_UNKNOWN", f"{server} refused") from None
        raise _unreached(server) from None
    except FederationError:
        raise _unreached(server) from None


def _content(wanted: DirectoryWanted) -> dict[str, Any]:
    since = {} if wanted.since is None else {"since": wanted.since}
    return since if wanted.limit is None else {"limit": wanted.limit, **since}


def _unreached(server: str) -> ApiError:
    return ApiError(502, "M_UNKNOWN", f"{server} gave no list of its rooms")


@router.get("/_matrix/client/v1/rooms/{room_id:id}/hierarchy")
async def hierarchy(room_id: str, request: Request, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v1/rooms/{roomId}/hierarchy."""
    max_depth = query_int(request, "max_depth", 0) if "max_depth" in request.query_params else None
    wanted = WalkWanted(
        query_int(request, "limit", LIMIT_DEFAULT, at_least=1),
        max_depth,
        query_bool(request, "suggested_only"),
        request.query_params.get("from"),
    )
    return answer(await services.space_walks.page(requester.user_id, room_id, wanted))

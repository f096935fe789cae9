"""Room aliases and the visibility of rooms in the directory ("Room aliases", "Published room directory")."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.appservices import check_alias
from annals.api.auth.tokens import WithRequester
from annals.api.bodies import Body, body_of
from annals.api.client.alias_targets import target_of
from annals.api.errors import forbidden, invalid_param, not_found
from annals.api.services import WithServices, request_id_of
from annals.matrix.identifiers import is_room_alias, is_room_id

router = APIRouter()

_ALIAS = "/_matrix/client/v3/directory/room/{alias:id}"
_LISTED = "/_matrix/client/v3/directory/list/room/{room_id:id}"


class AliasBody(Body):
    """PUT /directory/room/{roomAlias}."""

    room_id: str


class VisibilityBody(Body):
    """PUT /directory/list/room/{roomId}."""

    visibility: str = "public"


@router.get(_ALIAS)
async def resolve_alias(alias: str, services: WithServices) -> Response:
    """GET /_matrix/client/v3/directory/room/{roomAlias}."""
    if not is_room_alias(alias):
        raise invalid_param("Not a room alias")
    found = await target_of(alias, services)
    return answer({"room_id": found.room_id, "servers": found.servers})


@router.put(_ALIAS)
async def set_alias(
    alias: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[AliasBody, Depends(body_of(AliasBody))],
) -> Response:
    """PUT /_matrix/client/v3/directory/room/{roomAlias}."""
    check_alias(services.appservices, alias, requester.appservice)
    await services.aliases.claim(alias, body.room_id, requester.user_id, request_id_of(request))
    return answer({})


@router.delete(_ALIAS)
async def delete_alias(alias: str, request: Request, services: WithServices, requester: WithRequester) -> Response:
    """DELETE /_matrix/client/v3/directory/room/{roomAlias}."""
    check_alias(services.appservices, alias, requester.appservice)
    # A service has "full control over its namespace".
    may = requester.is_admin or requester.appservice is not None
    await services.aliases.release(alias, requester.user_id, may, request_id_of(request))
    return answer({})


@router.get("/_matrix/client/v3/rooms/{room_id:id}/aliases")
async def room_aliases(room_id: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/aliases."""
    if not is_room_id(room_id):
        raise invalid_param("Not a room id")
    aliases = await services.alias_reads.aliases_of(room_id, requester.user_id)
    if aliases is None:
        raise forbidden("You are not in this room")
    return answer({"aliases": aliases})


@router.get(_LISTED)
async def get_visibility(room_id: str, services: WithServices) -> Response:
    """GET /_matrix/client/v3/directory/list/room/{roomId}."""
    published = await services.alias_reads.is_published(room_id)
    if published is None:
        raise not_found("Room not found")
    return answer({"visibility": "public" if published else "private"})


@router.put(_LISTED)
async def set_visibility(
    room_id: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[VisibilityBody, Depends(body_of(VisibilityBody))],
) -> Response:
    """PUT /_matrix/client/v3/directory/list/room/{roomId}."""
    await services.aliases.publish(
        room_id, body.visibility, requester.user_id, requester.is_admin, request_id_of(request)
    )
    return answer({})

"""What servers ask about our users and aliases (server-server API, "Querying for information", "OpenID")."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.server import WithServer
from annals.api.errors import ApiError, invalid_param, missing_param, not_found, unrecognized
from annals.api.services import Services, WithServices
from annals.matrix.identifiers import domain_of, is_room_alias, is_user_id

router = APIRouter()

_BASE = "/_matrix/federation/v1"


@router.get(_BASE + "/query/directory")
async def directory(request: Request, services: WithServices, _: WithServer) -> Response:
    """GET /_matrix/federation/v1/query/directory."""
    alias = _parameter(request, "room_alias")
    if not is_room_alias(alias):
        raise invalid_param("Not a room alias")
    found = await services.alias_reads.resolve(alias)
    if found is None:
        raise not_found("Room alias not found.")
    return answer({"room_id": found.room_id, "servers": found.servers})


@router.get(_BASE + "/query/profile")
async def profile(request: Request, services: WithServices, _: WithServer) -> Response:
    """GET /_matrix/federation/v1/query/profile."""
    user_id = _parameter(request, "user_id")
    check_ours(user_id, services)
    fields = await services.profile_reads.profile(user_id)
    if fields is None:
        raise not_found("Profile not found")
    field = request.query_params.get("field")
    # "the server MUST only return the given field"; what the user has not set: "either exclude it from the response
    # body or give it the value `null`".
    return answer(fields if field is None else {name: value for name, value in fields.items() if name == field})


@router.get(_BASE + "/query/{query_type:id}")
async def other(query_type: str, _: WithServer) -> Response:
    """GET /_matrix/federation/v1/query/{queryType}: no other types are known."""
    raise unrecognized()


@router.get(_BASE + "/openid/userinfo")
async def userinfo(request: Request, services: WithServices) -> Response:
    """GET /_matrix/federation/v1/openid/userinfo: for whoever has the token."""
    token = request.query_params.get("access_token")
    if token is None:
        raise ApiError(401, "M_MISSING_TOKEN", "access_token is missing")
    owner = await services.openid_reads.owner(token)
    if owner is None:
        raise ApiError(401, "M_UNKNOWN_TOKEN", "Access token unknown or expired")
    return answer({"sub": owner})


def check_ours(user_id: str, services: Services) -> None:
    """Raise ApiError (400) unless the id is one of a user of this server: of others we keep, and tell, nothing."""
    if not is_user_id(user_id) or domain_of(user_id) != services.settings.server_name:
        raise invalid_param("Not a user of this server")


def _parameter(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if value is None:
        raise missing_param(name)
    return value

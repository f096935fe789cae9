"""Profiles ("Profiles")."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import Requester, WithRequester
from annals.api.bodies import read_object
from annals.api.errors import ApiError, forbidden, invalid_param, missing_param, not_found
from annals.api.services import Services, WithServices, request_id_of
from annals.matrix.identifiers import domain_of, is_user_id
from annals.queries.remote import NotReached

router = APIRouter()

_PATH = "/_matrix/client/v3/profile/{user_id:id}"


@router.get(_PATH)
async def profile(user_id: str, services: WithServices) -> Response:
    """GET /_matrix/client/v3/profile/{userId}."""
    return answer(await _profile(user_id, services))


@router.get(_PATH + "/{field:id}")
async def profile_field(user_id: str, field: str, services: WithServices) -> Response:
    """GET /_matrix/client/v3/profile/{userId}/{keyName}."""
    fields = await _profile(user_id, services)
    if field not in fields:
        raise not_found("No such profile field")
    return answer({field: fields[field]})


@router.put(_PATH + "/{field:id}")
async def set_profile_field(
    user_id: str, field: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """PUT /_matrix/client/v3/profile/{userId}/{keyName}."""
    body = await read_object(request)
    _check_own(user_id, requester)
    if field not in body:
        raise missing_param(field[:255])
    await services.profiles.set_field(user_id, field, body[field], request_id_of(request))
    return answer({})


@router.delete(_PATH + "/{field:id}")
async def remove_profile_field(
    user_id: str, field: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """DELETE /_matrix/client/v3/profile/{userId}/{keyName}."""
    _check_own(user_id, requester)
    await services.profiles.remove_field(user_id, field, request_id_of(request))
    return answer({})


async def _profile(user_id: str, services: Services) -> dict[str, Any]:
    if not is_user_id(user_id):
        raise invalid_param("Not a user id")
    if domain_of(user_id) == services.settings.server_name:
        found = await services.profile_reads.profile(user_id)
    else:
        found = await _profile_elsewhere(user_id, services)
    if found is None:
        raise not_found("No such user")
    return found


async def _profile_elsewhere(user_id: str, services: Services) -> dict[str, Any] | None:
    try:
        return await services.remote_reads.profile(user_id)
    except NotReached as error:
        raise ApiError(502, "M_UNKNOWN", f"The server of {user_id} does not answer: {error}") from error


def _check_own(user_id: str, requester: Requester) -> None:
    if not is_user_id(user_id):
        raise invalid_param("Not a user id")
    if user_id != requester.user_id:
        raise forbidden("Only your own profile can be changed")

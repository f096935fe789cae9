"""Account data ("Client Config")."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer, text_answer
from annals.api.auth.tokens import Requester, WithRequester
from annals.api.bodies import read_object
from annals.api.client.push_rules import push_rules_content
from annals.api.errors import forbidden, invalid_param, not_found
from annals.api.services import Services, WithServices, request_id_of
from annals.matrix.identifiers import is_room_id

router = APIRouter()

_GLOBAL = "/_matrix/client/v3/user/{user_id:id}/account_data/{type:id}"
_ROOM = "/_matrix/client/v3/user/{user_id:id}/rooms/{room_id:id}/account_data/{type:id}"


@router.put(_GLOBAL)
async def set_account_data(
    user_id: str, type: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """PUT /_matrix/client/v3/user/{userId}/account_data/{type}."""
    return await _set(user_id, None, type, request, services, requester)


@router.put(_ROOM)
async def set_room_account_data(
    user_id: str, room_id: str, type: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}."""
    if not is_room_id(room_id):
        raise invalid_param("Not a room id")
    return await _set(user_id, room_id, type, request, services, requester)


@router.get(_GLOBAL)
async def get_account_data(user_id: str, type: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/user/{userId}/account_data/{type}."""
    return await _get(user_id, None, type, services, requester)


@router.get(_ROOM)
async def get_room_account_data(
    user_id: str, room_id: str, type: str, services: WithServices, requester: WithRequester
) -> Response:
    """GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}."""
    if not is_room_id(room_id):
        raise invalid_param("Not a room id")
    return await _get(user_id, room_id, type, services, requester)


async def _set(
    user_id: str, room_id: str | None, type: str, request: Request, services: Services, requester: Requester
) -> Response:
    _check_own(user_id, requester)
    content = await read_object(request)
    await services.user_data.set_account_data(user_id, room_id, type, content, request_id_of(request))
    return answer({})


async def _get(user_id: str, room_id: str | None, type: str, services: Services, requester: Requester) -> Response:
    _check_own(user_id, requester)
    if room_id is None and type == "m.push_rules":
        return answer(push_rules_content(user_id))
    content = await services.account_reads.account_data(user_id, room_id, type)
    if content is None:
        raise not_found("No such account data")
    return text_answer(content)


def _check_own(user_id: str, requester: Requester) -> None:
    if user_id != requester.user_id:
        raise forbidden("This is another user's account data")

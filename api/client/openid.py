"""Tokens for other services ("OpenID")."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester
from annals.api.bodies import read_object
from annals.api.errors import forbidden
from annals.api.services import WithServices
from annals.commands.openid import VALID_FOR_S

router = APIRouter()


@router.post("/_matrix/client/v3/user/{user_id:id}/openid/request_token")
async def request_token(user_id: str, request: Request, services: WithServices, requester: WithRequester) -> Response:
    """POST /_matrix/client/v3/user/{userId}/openid/request_token."""
    await read_object(request, empty_ok=True)
    if user_id != requester.user_id:
        raise forbidden("Only for oneself")
    return answer(
        {
            "access_token": await services.openid.give(user_id),
            "token_type": "Bearer",
            "matrix_server_name": services.settings.server_name,
            "expires_in": VALID_FOR_S,
        }
    )

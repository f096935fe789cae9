"""Making an account ("Account registration")."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.limits import address_of
from annals.api.auth.uia import require_dummy
from annals.api.bodies import Body, checked, read_object
from annals.api.client.login import session_content
from annals.api.errors import ApiError, forbidden, missing_param
from annals.api.services import WithServices, request_id_of
from annals.commands.accounts import DeviceWish

router = APIRouter()


class RegisterBody(Body):
    """POST /register; `auth` is read by itself."""

    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool = False


@router.post("/_matrix/client/v3/register")
async def register(request: Request, services: WithServices) -> Response:
    """POST /_matrix/client/v3/register."""
    services.limits.take("registration", address_of(request.client))
    kind = request.query_params.get("kind", "user")
    if kind == "guest":
        raise forbidden("Guest access is disabled")
    if kind != "user":
        raise ApiError(400, "M_UNKNOWN", "Unknown kind of account")
    content = await read_object(request)
    if not services.settings.registration_enabled:
        raise forbidden("Registration is disabled")
    body = checked(RegisterBody, content)
    # Before the authentication: whoever cannot have the name need not go through it.
    if body.username is not None:
        await services.accounts.check_free(body.username)
    require_dummy(content)
    if body.password is None:
        raise missing_param("password")
    wish = None if body.inhibit_login else DeviceWish(body.device_id, body.initial_device_display_name)
    session = await services.accounts.register(body.username, body.password, wish, cause=request_id_of(request))
    return answer(session_content(session, services))


@router.get("/_matrix/client/v3/register/available")
async def is_available(request: Request, services: WithServices) -> Response:
    """GET /_matrix/client/v3/register/available."""
    services.limits.take("registration", address_of(request.client))
    username = request.query_params.get("username")
    if username is None:
        raise missing_param("username")
    await services.accounts.check_free(username)
    return answer({"available": True})

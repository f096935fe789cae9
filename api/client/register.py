"""Making an account ("Account registration")."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.appservices import check_user
from annals.api.auth.limits import address_of
from annals.api.auth.tokens import appservice_of, is_appservice
from annals.api.auth.uia import require_dummy
from annals.api.bodies import Body, checked, read_object
from annals.api.client.login import APPLICATION_SERVICE, session_content
from annals.api.errors import ApiError, forbidden, missing_param
from annals.api.services import Services, WithServices, request_id_of
from annals.commands.accounts import DeviceWish
from annals.commands.tokens import new_localpart

router = APIRouter()


class RegisterBody(Body):
    """POST /register; `auth` is read by itself. `type`: what an application service has instead of it."""

    type: str | None = None
    username: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None
    inhibit_login: bool = False


@router.post("/_matrix/client/v3/register")
async def register(request: Request, services: WithServices) -> Response:
    """POST /_matrix/client/v3/register."""
    if not is_appservice(request, services):
        services.limits.take("registration", address_of(request.client))
    kind = request.query_params.get("kind", "user")
    if kind == "guest":
        raise forbidden("Guest access is disabled")
    if kind != "user":
        raise ApiError(400, "M_UNKNOWN", "Unknown kind of account")
    content = await read_object(request)
    if content.get("type") == APPLICATION_SERVICE:
        return await _register_its_user(request, services, checked(RegisterBody, content))
    if not services.settings.registration_enabled:
        raise forbidden("Registration is disabled")
    body = checked(RegisterBody, content)
    # Before the authentication: whoever cannot have the name need not go through it.
    username = new_localpart() if body.username is None else body.username
    check_user(services.appservices, await services.accounts.check_free(username), None)
    require_dummy(content)
    if body.password is None:
        raise missing_param("password")
    return await _registered(request, services, body, username, body.password)


async def _register_its_user(request: Request, services: Services, body: RegisterBody) -> Response:
    """A user of an application service, without a password ("Server admin style permissions")."""
    appservice = appservice_of(request, services)
    if body.username is None:
        raise missing_param("username")
    check_user(services.appservices, services.accounts.new_user_id(body.username), appservice)
    # Nobody shall log in by a password that the service happens to send.
    return await _registered(request, services, body, body.username, None)


async def _registered(
    request: Request, services: Services, body: RegisterBody, username: str, password: str | None
) -> Response:
    wish = None if body.inhibit_login else DeviceWish(body.device_id, body.initial_device_display_name)
    session = await services.accounts.register(username, password, wish, cause=request_id_of(request))
    return answer(session_content(session, services))


@router.get("/_matrix/client/v3/register/available")
async def is_available(request: Request, services: WithServices) -> Response:
    """GET /_matrix/client/v3/register/available."""
    services.limits.take("registration", address_of(request.client))
    username = request.query_params.get("username")
    if username is None:
        raise missing_param("username")
    check_user(services.appservices, await services.accounts.check_free(username), None)
    return answer({"available": True})

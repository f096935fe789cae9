"""Logging in and out ("Login", "Logout", "Current account information")."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.appservices import exclusive
from annals.api.auth.limits import address_of
from annals.api.auth.tokens import WithRequester, appservice_of, is_appservice
from annals.api.bodies import Body, body_of
from annals.api.errors import ApiError, bad_json, forbidden, missing_param
from annals.api.services import Services, WithServices, request_id_of
from annals.commands.accounts import DeviceWish, Session

router = APIRouter()

PASSWORD = "m.login.password"
APPLICATION_SERVICE = "m.login.application_service"


class LoginBody(Body):
    """POST /login. The user is named by `identifier`, or by the older `user` alone."""

    type: str
    identifier: dict[str, Any] | None = None
    user: str | None = None
    password: str | None = None
    device_id: str | None = None
    initial_device_display_name: str | None = None


@router.get("/_matrix/client/v3/login")
async def login_flows(services: WithServices) -> Response:
    """GET /_matrix/client/v3/login."""
    types = [PASSWORD, APPLICATION_SERVICE] if services.appservices else [PASSWORD]
    return answer({"flows": [{"type": type} for type in types]})


@router.post("/_matrix/client/v3/login")
async def log_in(
    request: Request, services: WithServices, body: Annotated[LoginBody, Depends(body_of(LoginBody))]
) -> Response:
    """POST /_matrix/client/v3/login."""
    if not is_appservice(request, services):
        services.limits.take("login", address_of(request.client))
    if body.type == APPLICATION_SERVICE:
        return await _log_in_its_user(request, services, body)
    if body.type != PASSWORD:
        raise ApiError(400, "M_UNKNOWN", "Unknown login type")
    user = _user_of(body)
    if body.password is None:
        raise missing_param("password")
    services.limits.take("login", user)
    wish = DeviceWish(body.device_id, body.initial_device_display_name)
    session = await services.accounts.log_in(user, body.password, wish, request_id_of(request))
    return answer(session_content(session, services))


async def _log_in_its_user(request: Request, services: Services, body: LoginBody) -> Response:
    """ "By providing a valid appservice token and a user within the appservice's namespace." """
    appservice = appservice_of(request, services)
    user_id = services.accounts.own_user_id(_user_of(body))
    if not appservice.has_user(user_id):
        raise exclusive("This user is not in a namespace of the application service", 403)
    wish = DeviceWish(body.device_id, body.initial_device_display_name)
    session = await services.accounts.log_in_without_password(user_id, wish, request_id_of(request))
    return answer(session_content(session, services))


@router.post("/_matrix/client/v3/logout")
async def log_out(request: Request, services: WithServices, requester: WithRequester) -> Response:
    """POST /_matrix/client/v3/logout."""
    if requester.device_id is None:
        raise forbidden("There is no device to log out")
    await services.accounts.log_out(requester.user_id, requester.device_id, request_id_of(request))
    return answer({})


@router.post("/_matrix/client/v3/logout/all")
async def log_out_everywhere(request: Request, services: WithServices, requester: WithRequester) -> Response:
    """POST /_matrix/client/v3/logout/all."""
    await services.accounts.log_out_everywhere(requester.user_id, request_id_of(request))
    return answer({})


@router.get("/_matrix/client/v3/account/whoami")
async def who_am_i(requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/account/whoami."""
    content: dict[str, Any] = {"user_id": requester.user_id, "is_guest": False}
    if requester.device_id is not None:
        content["device_id"] = requester.device_id
    return answer(content)


def session_content(session: Session, services: Services) -> dict[str, Any]:
    """The answer that hands a session to its client."""
    content: dict[str, Any] = {"user_id": session.user_id, "home_server": services.settings.server_name}
    if session.access_token is not None:
        content |= {"access_token": session.access_token, "device_id": session.device_id}
    return content


def _user_of(body: LoginBody) -> str:
    if body.identifier is None:
        if body.user is None:
            raise missing_param("identifier")
        return body.user
    kind = body.identifier.get("type")
    if not isinstance(kind, str):
        raise bad_json("identifier.type must be a string")
    if kind != "m.id.user":
        # Third-party ids and phone numbers: nobody has one here, and saying so would tell who has.
        raise forbidden("Invalid username or password")
    user = body.identifier.get("user")
    if user is None:
        raise missing_param("identifier.user")
    if not isinstance(user, str):
        raise bad_json("identifier.user must be a string")
    return user

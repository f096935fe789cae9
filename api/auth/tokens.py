"""Access tokens of clients ("Using access tokens"), and those of application services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from annals.api.appservices import Appservice
from annals.api.errors import ApiError, forbidden
from annals.api.services import Services, services_of

TOKEN_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks. An application service acts as its sender, or as a user of its own, and has no device."""

    user_id: str
    device_id: str | None
    is_admin: bool = False
    appservice: Appservice | None = None

    @property
    def device(self) -> str:
        """Whose transaction ids these are: those of an application service are its own, though it has no device."""
        if self.device_id is not None or self.appservice is None:
            return self.device_id or ""
        return f"appservice {self.appservice.appservice_id}"


def token_of(request: Request) -> str | None:
    """The access token that a request carries: `Authorization: Bearer`, or the deprecated query parameter."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
    return request.query_params.get("access_token") or None


async def authenticate(request: Request, services: Services) -> Requester:
    """The requester; 401 M_MISSING_TOKEN or M_UNKNOWN_TOKEN. For hot endpoints, which call it themselves."""
    token = _given_token(request)
    if (appservice := services.appservices.get(token)) is not None:
        user_id = request.query_params.get("user_id", appservice.sender)
        await _check_is_its(appservice, user_id, services)
        return Requester(user_id, None, appservice=appservice)
    owner = await services.tokens.owner_of(token) if len(token) <= TOKEN_LENGTH_MAX else None
    if owner is None:
        raise _unknown_token()
    return Requester(owner.user_id, owner.device_id, owner.is_admin)


async def _check_is_its(appservice: Appservice, user_id: str, services: Services) -> None:
    """Whether it may act as a user ("Identity assertion"); 403 M_FORBIDDEN."""
    if user_id == appservice.sender:
        return
    if not appservice.has_user(user_id):
        raise forbidden("The application service cannot act as this user")
    # Users of other servers, whom a pattern may have too, have no account here.
    if not await services.tokens.has_account(user_id):
        raise forbidden("The application service has not registered this user")


def is_appservice(request: Request, services: Services) -> bool:
    """Whether a request carries the token of an application service."""
    return (token_of(request) or "") in services.appservices


def appservice_of(request: Request, services: Services) -> Appservice:
    """The application service that a request must come from; 401 M_MISSING_TOKEN or M_UNKNOWN_TOKEN."""
    appservice = services.appservices.get(_given_token(request))
    if appservice is None:
        raise _unknown_token()
    return appservice


async def requester_of(request: Request) -> Requester:
    """`authenticate` as a dependency."""
    return await authenticate(request, services_of(request))


def _given_token(request: Request) -> str:
    token = token_of(request)
    if token is None:
        raise ApiError(401, "M_MISSING_TOKEN", "Missing access token")
    return token


def _unknown_token() -> ApiError:
    return ApiError(401, "M_UNKNOWN_TOKEN", "Unknown access token", {"soft_logout": False})


WithRequester = Annotated[Requester, Depends(requester_of)]

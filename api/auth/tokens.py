"""Access tokens of clients ("Using access tokens"), and those of application services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from annals.api.errors import ApiError, forbidden
from annals.api.services import Services, services_of

TOKEN_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks. An application service acts as its sender and has no device."""

    user_id: str
    device_id: str | None
    is_admin: bool = False
    appservice_id: str | None = None


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
    token = token_of(request)
    if token is None:
        raise ApiError(401, "M_MISSING_TOKEN", "Missing access token")
    if (appservice := services.appservices.get(token)) is not None:
        asserted = request.query_params.get("user_id")
        # NOTSPEC: an application service cannot act as its users yet; as somebody else is refused, not ignored.
        if asserted is not None and asserted != appservice.sender:
            raise forbidden("Application services cannot act as other users here")
        return Requester(appservice.sender, None, appservice_id=appservice.appservice_id)
    owner = await services.tokens.owner_of(token) if len(token) <= TOKEN_LENGTH_MAX else None
    if owner is None:
        raise ApiError(401, "M_UNKNOWN_TOKEN", "Unknown access token", {"soft_logout": False})
    return Requester(owner.user_id, owner.device_id, owner.is_admin)


async def requester_of(request: Request) -> Requester:
    """`authenticate` as a dependency."""
    return await authenticate(request, services_of(request))


WithRequester = Annotated[Requester, Depends(requester_of)]

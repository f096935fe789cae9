"""Who is online ("Presence")."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester
from annals.api.bodies import Body, body_of
from annals.api.errors import forbidden
from annals.api.services import WithServices
from annals.queries.errors import NoAccess

router = APIRouter()

_STATUS = "/_matrix/client/v3/presence/{user_id:id}/status"


class PresenceBody(Body):
    """PUT /presence/{userId}/status."""

    presence: Literal["online", "offline", "unavailable"]
    status_msg: str | None = None


@router.put(_STATUS)
async def set_presence(
    user_id: str,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[PresenceBody, Depends(body_of(PresenceBody))],
) -> Response:
    """PUT /_matrix/client/v3/presence/{userId}/status."""
    # "You cannot set the presence state of another user."
    if user_id != requester.user_id:
        raise forbidden("Nobody is online for another user")
    await services.presence.set(user_id, requester.device_id, body.presence, body.status_msg)
    return answer({})


@router.get(_STATUS)
async def presence(user_id: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/presence/{userId}/status."""
    try:
        return answer(await services.presence_reads.status(requester.user_id, user_id, services.clock()))
    except NoAccess:
        raise forbidden("You are not allowed to see their presence") from None

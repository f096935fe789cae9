"""What users do while they read: typing, receipts, read markers ("Typing Notifications", "Receipts")."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester
from annals.api.bodies import Body, body_of, read_object
from annals.api.errors import forbidden, invalid_param
from annals.api.services import WithServices, request_id_of
from annals.commands.receipts import FULLY_READ, READ, READ_PRIVATE, Marker
from annals.commands.typing import TIMEOUT_MS_DEFAULT

router = APIRouter()

_ROOM = "/_matrix/client/v3/rooms/{room_id:id}"


class TypingBody(Body):
    """PUT /rooms/{roomId}/typing/{userId}."""

    typing: bool
    timeout: int = TIMEOUT_MS_DEFAULT


class MarkersBody(Body):
    """POST /rooms/{roomId}/read_markers."""

    fully_read: str | None = Field(default=None, alias="m.fully_read")
    read: str | None = Field(default=None, alias="m.read")
    read_private: str | None = Field(default=None, alias="m.read.private")


@router.put(_ROOM + "/typing/{user_id:id}")
async def set_typing(
    room_id: str,
    user_id: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[TypingBody, Depends(body_of(TypingBody))],
) -> Response:
    """PUT /_matrix/client/v3/rooms/{roomId}/typing/{userId}."""
    if user_id != requester.user_id:
        raise forbidden("Nobody types for another user")
    await services.typing.set(user_id, room_id, body.timeout if body.typing else 0, request_id_of(request))
    return answer({})


@router.post(_ROOM + "/receipt/{receipt_type:id}/{event_id:id}")
async def set_receipt(
    room_id: str,
    receipt_type: str,
    event_id: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}."""
    body = await read_object(request, empty_ok=True)
    thread_id = body.get("thread_id")
    if "thread_id" in body and (not isinstance(thread_id, str) or not thread_id):
        raise invalid_param("thread_id field must be a non-empty string")
    marker = Marker(receipt_type, event_id, thread_id)
    await services.receipts.set(requester.user_id, room_id, [marker], request_id_of(request))
    return answer({})


@router.post(_ROOM + "/read_markers")
async def set_read_markers(
    room_id: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[MarkersBody, Depends(body_of(MarkersBody))],
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/read_markers."""
    named = ((FULLY_READ, body.fully_read), (READ, body.read), (READ_PRIVATE, body.read_private))
    markers = [Marker(receipt_type, event_id) for receipt_type, event_id in named if event_id is not None]
    await services.receipts.set(requester.user_id, room_id, markers, request_id_of(request))
    return answer({})

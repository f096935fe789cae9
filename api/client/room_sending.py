"""Sending events ("Sending events to a room", "Redactions"). PUT …/send is a hot route."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer, json_bytes
from annals.api.auth.tokens import Requester, WithRequester, authenticate
from annals.api.bodies import read_object
from annals.api.hot import HotRoute
from annals.api.services import Services, WithServices, request_id_of, services_of
from annals.matrix.transactions import transaction_key

router = APIRouter()

_ROOMS = "/_matrix/client/v3/rooms/"
_STATE = _ROOMS + "{room_id:id}/state/{type:id}"
REDACTION = "m.room.redaction"


async def send(request: Request, parameters: dict[str, str]) -> bytes:
    """PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}."""
    services = services_of(request)
    requester = await authenticate(request, services)
    services.limits.take("message", requester.user_id)
    content = await read_object(request)
    room_id, event_type = parameters["room_id"], parameters["type"]
    key = _key(requester, f"{_ROOMS}{room_id}/send/{event_type}", parameters["transaction_id"])
    event_id = await services.rooms.send(
        room_id, requester.user_id, event_type, content, request_id_of(request), key=key
    )
    return json_bytes({"event_id": event_id})


@router.put(_ROOMS + "{room_id:id}/redact/{event_id:id}/{transaction_id:id}")
async def redact(
    room_id: str,
    event_id: str,
    transaction_id: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
) -> Response:
    """PUT /_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}."""
    services.limits.take("message", requester.user_id)
    content = {**await read_object(request, empty_ok=True), "redacts": event_id}
    key = _key(requester, f"{_ROOMS}{room_id}/redact/{event_id}", transaction_id)
    made = await services.rooms.send(room_id, requester.user_id, REDACTION, content, request_id_of(request), key=key)
    return answer({"event_id": made})


@router.put(_STATE)
async def set_state(
    room_id: str, type: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}."""
    return await _set_state(request, services, requester, room_id, (type, ""))


@router.put(_STATE + "/{state_key:id0}")
async def set_state_with_key(
    room_id: str, type: str, state_key: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}."""
    return await _set_state(request, services, requester, room_id, (type, state_key))


async def _set_state(
    request: Request, services: Services, requester: Requester, room_id: str, state_key: tuple[str, str]
) -> Response:
    services.limits.take("message", requester.user_id)
    content: dict[str, Any] = await read_object(request)
    event_type, key = state_key
    event_id = await services.rooms.send(
        room_id, requester.user_id, event_type, content, request_id_of(request), state_key=key
    )
    return answer({"event_id": event_id})


def _key(requester: Requester, path: str, transaction_id: str) -> str:
    return transaction_key(requester.user_id, requester.device, path, transaction_id)


HOT_ROUTES = (HotRoute("PUT", _ROOMS + "{room_id}/send/{type}/{transaction_id}", send),)

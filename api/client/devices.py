"""A user's own devices ("Device management"), as far as they are read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester
from annals.api.errors import not_found
from annals.api.services import WithServices
from annals.queries.accounts import Device

router = APIRouter()


@router.get("/_matrix/client/v3/devices")
async def devices(services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/devices."""
    found = await services.account_reads.devices(requester.user_id)
    return answer({"devices": [_content(device) for device in found]})


@router.get("/_matrix/client/v3/devices/{device_id:id}")
async def device(device_id: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/devices/{deviceId}."""
    found = await services.account_reads.device(requester.user_id, device_id)
    if found is None:
        raise not_found("Device not found")
    return answer(_content(found))


def _content(device: Device) -> dict[str, Any]:
    content = {"device_id": device.device_id}
    if device.display_name is not None:
        content["display_name"] = device.display_name
    return content

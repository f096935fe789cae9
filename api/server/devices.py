"""Devices of our users and their keys ("Device Management", "End-to-End Encryption").

No client can upload keys here yet, so that none are given; the answers name the users and devices that there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.server import InTurn, WithServer
from annals.api.bodies import Body, checked
from annals.api.errors import bad_json, not_found
from annals.api.server.queries import check_ours
from annals.api.services import WithServices

router = APIRouter()

USERS_MAX, DEVICES_MAX = 10_000, 50_000
"""Of one request: servers ask once for all users of ours that are in a room."""
_BASE = "/_matrix/federation/v1/user"


class KeysQueryBody(Body):
    """POST /user/keys/query: device ids by user."""

    device_keys: dict[str, list[str]]


class KeysClaimBody(Body):
    """POST /user/keys/claim: algorithms by device by user."""

    one_time_keys: dict[str, dict[str, str]]


@router.get(_BASE + "/devices/{user_id:id}")
async def devices(user_id: str, services: WithServices, _: WithServer) -> Response:
    """GET /_matrix/federation/v1/user/devices/{userId}."""
    check_ours(user_id, services)
    found = await services.federation_devices.of_user(user_id)
    if found is None:
        raise not_found("User not found")
    listed = [{"device_id": device_id, "keys": _no_keys(user_id, device_id)} for device_id in found.device_ids]
    return answer({"user_id": user_id, "stream_id": found.stream_id, "devices": listed})


@router.post(_BASE + "/keys/query")
async def keys_query(services: WithServices, server: InTurn) -> Response:
    """POST /_matrix/federation/v1/user/keys/query."""
    body = checked(KeysQueryBody, server.content)
    _check_bounded(body.device_keys)
    users = await services.federation_devices.known(body.device_keys)
    return answer({"device_keys": {user_id: {} for user_id in users}})


@router.post(_BASE + "/keys/claim")
async def keys_claim(services: WithServices, server: InTurn) -> Response:
    """POST /_matrix/federation/v1/user/keys/claim."""
    body = checked(KeysClaimBody, server.content)
    _check_bounded(body.one_time_keys)
    users = await services.federation_devices.known(body.one_time_keys)
    return answer({"one_time_keys": {user_id: {} for user_id in users}})


def _check_bounded(named: Mapping[str, Collection[str]]) -> None:
    """400 where a request names more than is looked up at once: then it is to be asked in parts."""
    if len(named) > USERS_MAX or sum(map(len, named.values())) > DEVICES_MAX:
        raise bad_json(f"More than {USERS_MAX} users or {DEVICES_MAX} devices in one request")


def _no_keys(user_id: str, device_id: str) -> dict[str, Any]:
    return {"user_id": user_id, "device_id": device_id, "algorithms": [], "keys": {}, "signatures": {}}

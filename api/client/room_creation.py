"""Making a room ("Creation"), and replacing one ("Room upgrades")."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.appservices import check_alias
from annals.api.auth.tokens import WithRequester
from annals.api.bodies import Body, body_of
from annals.api.errors import ApiError, invalid_param
from annals.api.services import WithServices, request_id_of
from annals.commands.rooms.creation import RoomRequest, StateWish
from annals.matrix.identifiers import is_room_alias

router = APIRouter()


class StateEventBody(Body):
    """An entry of `initial_state`."""

    type: str
    content: dict[str, Any]
    state_key: str = ""


class CreateRoomBody(Body):
    """POST /createRoom."""

    visibility: str = "private"
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] = Field(default_factory=list, max_length=1_000)
    invite_3pid: list[Any] = Field(default_factory=list)
    room_version: str | None = None
    creation_content: dict[str, Any] = Field(default_factory=dict)
    initial_state: list[StateEventBody] = Field(default_factory=list, max_length=1_000)
    preset: str | None = None
    is_direct: bool = False
    power_level_content_override: dict[str, Any] = Field(default_factory=dict)


@router.post("/_matrix/client/v3/createRoom")
async def create_room(
    request: Request,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[CreateRoomBody, Depends(body_of(CreateRoomBody, empty_ok=True))],
) -> Response:
    """POST /_matrix/client/v3/createRoom."""
    services.limits.take("room_creation", requester.user_id)
    if body.invite_3pid:
        raise ApiError(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED", "Nobody can be invited by a third-party id here")
    alias = _alias(body.room_alias_name, services.settings.server_name)
    if alias is not None:
        check_alias(services.appservices, alias, requester.appservice)
    wish = RoomRequest(
        creator=requester.user_id,
        preset=body.preset,
        visibility=body.visibility,
        name=body.name,
        topic=body.topic,
        alias=alias,
        invite=tuple(body.invite),
        is_direct=body.is_direct,
        creation_content=body.creation_content,
        initial_state=tuple(StateWish(event.type, event.content, event.state_key) for event in body.initial_state),
        power_level_content_override=body.power_level_content_override,
    )
    return answer({"room_id": await services.rooms.create(wish, body.room_version, request_id_of(request))})


class UpgradeBody(Body):
    """POST /rooms/{roomId}/upgrade."""

    new_version: str
    additional_creators: list[str] = Field(default_factory=list, max_length=1_000)


@router.post("/_matrix/client/v3/rooms/{room_id:id}/upgrade")
async def upgrade(
    room_id: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[UpgradeBody, Depends(body_of(UpgradeBody))],
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/upgrade."""
    services.limits.take("room_creation", requester.user_id)
    others, cause = body.additional_creators, request_id_of(request)
    replacement = await services.rooms.upgrade(room_id, requester.user_id, body.new_version, others, cause)
    return answer({"replacement_room": replacement})


def _alias(name: str | None, server_name: str) -> str | None:
    if name is None:
        return None
    alias = f"#{name}:{server_name}"
    # A name with a colon would be an alias of another server.
    if not name or ":" in name or not is_room_alias(alias):
        raise invalid_param("room_alias_name is no localpart of an alias")
    return alias

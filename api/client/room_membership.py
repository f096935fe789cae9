"""Coming and going ("Room membership")."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester
from annals.api.bodies import Body, body_of
from annals.api.client.alias_targets import target_of
from annals.api.errors import ApiError, invalid_param, missing_param
from annals.api.services import Services, WithServices, request_id_of
from annals.matrix.identifiers import is_room_alias, is_room_id, is_server_name

router = APIRouter()

_ROOM = "/_matrix/client/v3/rooms/{room_id:id}"


class ReasonBody(Body):
    """Bodies in which everything may be missing, the body included."""

    reason: str | None = None


class JoinBody(ReasonBody):
    """POST /join and /rooms/{roomId}/join. Third-party invites need an identity server, which there is none of."""

    third_party_signed: dict[str, Any] | None = None


class TargetBody(ReasonBody):
    """Bodies that name another user."""

    user_id: str


class InviteBody(ReasonBody):
    """POST /rooms/{roomId}/invite: a user id, or what names somebody elsewhere."""

    user_id: str | None = None
    medium: str | None = None
    address: str | None = None


WithReason = Annotated[ReasonBody, Depends(body_of(ReasonBody, empty_ok=True))]
WithJoin = Annotated[JoinBody, Depends(body_of(JoinBody, empty_ok=True))]
WithTarget = Annotated[TargetBody, Depends(body_of(TargetBody))]


@router.post("/_matrix/client/v3/join/{name:id}")
async def join_by_name(
    name: str, request: Request, services: WithServices, requester: WithRequester, body: WithJoin
) -> Response:
    """POST /_matrix/client/v3/join/{roomIdOrAlias}."""
    room_id, servers = await _room_of(name, request, services)
    await services.rooms.join(requester.user_id, room_id, body.reason, {}, request_id_of(request), servers)
    return answer({"room_id": room_id})


@router.post(_ROOM + "/join")
async def join(
    room_id: str, request: Request, services: WithServices, requester: WithRequester, body: WithJoin
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/join."""
    _check_room(room_id)
    servers = _named_servers(request)
    await services.rooms.join(requester.user_id, room_id, body.reason, {}, request_id_of(request), servers)
    return answer({"room_id": room_id})


@router.post("/_matrix/client/v3/knock/{name:id}")
async def knock(
    name: str, request: Request, services: WithServices, requester: WithRequester, body: WithReason
) -> Response:
    """POST /_matrix/client/v3/knock/{roomIdOrAlias}."""
    room_id, servers = await _room_of(name, request, services)
    await services.rooms.knock(requester.user_id, room_id, body.reason, request_id_of(request), servers)
    return answer({"room_id": room_id})


@router.post(_ROOM + "/leave")
async def leave(
    room_id: str, request: Request, services: WithServices, requester: WithRequester, body: WithReason
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/leave."""
    _check_room(room_id)
    await services.rooms.leave(requester.user_id, room_id, body.reason, request_id_of(request))
    return answer({})


@router.post(_ROOM + "/forget")
async def forget(
    room_id: str, request: Request, services: WithServices, requester: WithRequester, _: WithReason
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/forget."""
    _check_room(room_id)
    await services.rooms.forget(requester.user_id, room_id, request_id_of(request))
    return answer({})


@router.post(_ROOM + "/invite")
async def invite(
    room_id: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
    body: Annotated[InviteBody, Depends(body_of(InviteBody))],
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/invite."""
    _check_room(room_id)
    if body.user_id is None:
        if body.medium is not None or body.address is not None:
            raise ApiError(400, "M_THREEPID_MEDIUM_NOT_SUPPORTED", "Nobody can be invited by a third-party id here")
        raise missing_param("user_id")
    await services.rooms.invite(requester.user_id, body.user_id, room_id, body.reason, request_id_of(request))
    return answer({})


@router.post(_ROOM + "/kick")
async def kick(
    room_id: str, request: Request, services: WithServices, requester: WithRequester, body: WithTarget
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/kick."""
    _check_room(room_id)
    await services.rooms.kick(requester.user_id, body.user_id, room_id, body.reason, request_id_of(request))
    return answer({})


@router.post(_ROOM + "/ban")
async def ban(
    room_id: str, request: Request, services: WithServices, requester: WithRequester, body: WithTarget
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/ban."""
    _check_room(room_id)
    await services.rooms.ban(requester.user_id, body.user_id, room_id, body.reason, request_id_of(request))
    return answer({})


@router.post(_ROOM + "/unban")
async def unban(
    room_id: str, request: Request, services: WithServices, requester: WithRequester, body: WithTarget
) -> Response:
    """POST /_matrix/client/v3/rooms/{roomId}/unban."""
    _check_room(room_id)
    await services.rooms.unban(requester.user_id, body.user_id, room_id, body.reason, request_id_of(request))
    return answer({})


@router.get("/_matrix/client/v3/joined_rooms")
async def joined_rooms(services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/joined_rooms."""
    return answer({"joined_rooms": await services.room_reads.joined_rooms(requester.user_id)})


async def _room_of(name: str, request: Request, services: Services) -> tuple[str, list[str]]:
    """The room that a room id or an alias names, and servers through which it may be reached."""
    named = _named_servers(request)
    if is_room_id(name):
        return name, named
    if not is_room_alias(name):
        raise invalid_param("Neither a room id nor a room alias")
    found = await target_of(name, services)
    return found.room_id, [*named, *found.servers]


def _named_servers(request: Request) -> list[str]:
    """`via`, and `server_name` as it was called before version 1.12 of the specification."""
    query = request.query_params
    return [server for name in ("via", "server_name") for server in query.getlist(name) if is_server_name(server)]


def _check_room(room_id: str) -> None:
    if not is_room_id(room_id):
        raise invalid_param("Not a room id")

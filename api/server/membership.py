"""Other servers' users join, leave and knock by way of us, and invite our users (server-server API, "Joining Rooms",
"Knocking upon a room", "Leaving Rooms", "Inviting to a room")."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer, text_answer
from annals.api.auth.limits import address_of
from annals.api.auth.server import FromServer, InTurn, WithServer
from annals.api.bodies import as_object, query_bool, read_object
from annals.api.services import Services, WithServices, request_id_of
from annals.commands.rooms.templates import Template
from annals.ingest.resident.member_events import HandedIn

router = APIRouter()

_V1, _V2 = "/_matrix/federation/v1/", "/_matrix/federation/v2/"
_USER, _EVENT = "/{room_id:id}/{user_id:id}", "/{room_id:id}/{event_id:id}"


@router.get(_V1 + "make_join" + _USER)
async def make_join(
    room_id: str, user_id: str, request: Request, services: WithServices, server: WithServer
) -> Response:
    """GET /_matrix/federation/v1/make_join/{roomId}/{userId}."""
    return _template(await services.templates.join(server.origin, room_id, user_id, _versions(request)))


@router.get(_V1 + "make_knock" + _USER)
async def make_knock(
    room_id: str, user_id: str, request: Request, services: WithServices, server: WithServer
) -> Response:
    """GET /_matrix/federation/v1/make_knock/{roomId}/{userId}."""
    return _template(await services.templates.knock(server.origin, room_id, user_id, _versions(request)))


@router.get(_V1 + "make_leave" + _USER)
async def make_leave(room_id: str, user_id: str, services: WithServices, server: WithServer) -> Response:
    """GET /_matrix/federation/v1/make_leave/{roomId}/{userId}."""
    return _template(await services.templates.leave(server.origin, room_id, user_id))


@router.put(_V2 + "send_join" + _EVENT)
async def send_join(room_id: str, event_id: str, request: Request, services: WithServices, server: InTurn) -> Response:
    """PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}."""
    omit_members = query_bool(request, "omit_members")
    return text_answer(await _joined(services, _handed(server, room_id, event_id, request), omit_members))


@router.put(_V1 + "send_join" + _EVENT)
async def send_join_v1(
    room_id: str, event_id: str, request: Request, services: WithServices, server: InTurn
) -> Response:
    """PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}, whose answers stand in an array behind their status."""
    joined = await _joined(services, _handed(server, room_id, event_id, request), False)
    return text_answer(b"[200," + joined + b"]")


@router.put(_V2 + "send_leave" + _EVENT)
async def send_leave(
    room_id: str, event_id: str, request: Request, services: WithServices, server: WithServer
) -> Response:
    """PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}."""
    await services.sent_handshakes.receive(_handed(server, room_id, event_id, request), "leave")
    return answer({})


@router.put(_V1 + "send_leave" + _EVENT)
async def send_leave_v1(
    room_id: str, event_id: str, request: Request, services: WithServices, server: WithServer
) -> Response:
    """PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}."""
    await services.sent_handshakes.receive(_handed(server, room_id, event_id, request), "leave")
    return answer([200, {}])


@router.put(_V1 + "send_knock" + _EVENT)
async def send_knock(
    room_id: str, event_id: str, request: Request, services: WithServices, server: WithServer
) -> Response:
    """PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}."""
    await services.sent_handshakes.receive(_handed(server, room_id, event_id, request), "knock")
    return answer({"knock_room_state": await services.room_answers.shown_state(room_id)})


@router.put(_V2 + "invite" + _EVENT)
async def invite(room_id: str, event_id: str, request: Request, services: WithServices, server: WithServer) -> Response:
    """PUT /_matrix/federation/v2/invite/{roomId}/{eventId}."""
    content = server.content
    handed = HandedIn(server.origin, room_id, event_id, as_object(content.get("event")), request_id_of(request))
    signed = await services.invites.receive(handed, content.get("room_version"), content.get("invite_room_state"))
    return answer({"event": signed})


@router.put(_V1 + "invite" + _EVENT)
async def invite_v1(
    room_id: str, event_id: str, request: Request, services: WithServices, server: WithServer
) -> Response:
    """PUT /_matrix/federation/v1/invite/{roomId}/{eventId}: "must assume that the room version is either 1 or 2"."""
    unsigned = server.content.get("unsigned")
    state = unsigned.get("invite_room_state") if isinstance(unsigned, dict) else None
    signed = await services.invites.receive(_handed(server, room_id, event_id, request), "1", state)
    return answer([200, {"event": signed}])


@router.put(_V1 + "exchange_third_party_invite/{room_id:id}")
async def exchange_third_party_invite(
    room_id: str, request: Request, services: WithServices, server: WithServer
) -> Response:
    """PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}."""
    await services.third_party_invites.exchange(server.origin, room_id, server.content, request_id_of(request))
    return answer({})


@router.put(_V1 + "3pid/onbind")
@router.post(_V1 + "3pid/onbind")
async def on_bind(request: Request, services: WithServices) -> Response:
    """PUT /_matrix/federation/v1/3pid/onbind; identity servers POST it to Synapse. Nobody has to sign it."""
    services.limits.take("login", f"3pid/onbind {address_of(request.client)}")
    await services.bound_invites.bound(await read_object(request), request_id_of(request))
    return answer({})


def _versions(request: Request) -> list[str]:
    # "The room versions the sending server has support for. Defaults to `["1"]`."
    return request.query_params.getlist("ver") or ["1"]


def _template(made: Template) -> Response:
    return answer({"event": made.event, "room_version": made.room_version})


def _handed(server: FromServer, room_id: str, event_id: str, request: Request) -> HandedIn:
    pdu: dict[str, Any] = server.content
    return HandedIn(server.origin, room_id, event_id, pdu, request_id_of(request))


async def _joined(services: Services, handed: HandedIn, omit_members: bool) -> bytes:
    pdu = await services.sent_handshakes.receive(handed, "join")
    answers = services.room_answers
    return await answers.join_answer(handed.room_id, pdu, handed.event_id, omit_members=omit_members)

"""Reading rooms ("Getting events for a room"): state, members, single events. GET …/messages is a hot route."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer, text_answer
from annals.api.auth.tokens import Requester, WithRequester, authenticate
from annals.api.bodies import as_object, checked, parse_json, query_int
from annals.api.client.filter_body import RoomEventFilter
from annals.api.errors import invalid_param, missing_param
from annals.api.hot import HotRoute
from annals.api.moments import query_moment
from annals.api.services import Services, WithServices, services_of
from annals.queries.client_events import Viewer
from annals.queries.messages import MessagesWanted
from annals.queries.room_state import MembersWanted
from annals.queries.sync.filters import BadFilter, EventFilter, event_filter

router = APIRouter()

_ROOM = "/_matrix/client/v3/rooms/{room_id:id}"
_STATE = _ROOM + "/state/{type:id}"
_RELATIONS = "/_matrix/client/v1/rooms/{room_id:id}/relations/{event_id:id}"
_MEMBERSHIPS = ("join", "invite", "knock", "leave", "ban")
LIMIT_DEFAULT, LIMIT_MAX = 10, 1_000
CONTEXT_LIMIT_MAX = 100


async def messages(request: Request, parameters: dict[str, str]) -> bytes:
    """GET /_matrix/client/v3/rooms/{roomId}/messages."""
    services = services_of(request)
    requester = await authenticate(request, services)
    direction = request.query_params.get("dir")
    if direction is None:
        raise missing_param("dir")
    wanted = _wanted(request, direction, _filter_of(request))
    return await services.messages.messages(viewer_of(requester, services), parameters["room_id"], wanted)


@router.get(_ROOM + "/event/{event_id:id}")
async def event(room_id: str, event_id: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/event/{eventId}."""
    return text_answer(await services.messages.event(viewer_of(requester, services), room_id, event_id))


@router.get(_ROOM + "/context/{event_id:id}")
async def context(
    room_id: str, event_id: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/context/{eventId}."""
    limit = min(query_int(request, "limit", LIMIT_DEFAULT), CONTEXT_LIMIT_MAX)
    viewer, wanted = viewer_of(requester, services), _filter_of(request)
    return text_answer(await services.messages.context(viewer, room_id, event_id, limit, wanted))


@router.get("/_matrix/client/v1/rooms/{room_id:id}/timestamp_to_event")
async def timestamp_to_event(
    room_id: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """GET /_matrix/client/v1/rooms/{roomId}/timestamp_to_event."""
    moment = query_moment(request)
    found = await services.moments.near(viewer_of(requester, services), room_id, moment)
    return answer({"event_id": found.event_id, "origin_server_ts": found.ts_ms})


@router.get(_RELATIONS)
async def relations(
    room_id: str, event_id: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}."""
    return await _relations(request, services, requester, (room_id, event_id), (None, None))


@router.get(_RELATIONS + "/{relation:id}")
async def relations_of_kind(
    room_id: str, event_id: str, relation: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}."""
    return await _relations(request, services, requester, (room_id, event_id), (relation, None))


@router.get(_RELATIONS + "/{relation:id}/{type:id}")
async def relations_of_type(
    room_id: str,
    event_id: str,
    relation: str,
    type: str,
    request: Request,
    services: WithServices,
    requester: WithRequester,
) -> Response:
    """GET /_matrix/client/v1/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}."""
    return await _relations(request, services, requester, (room_id, event_id), (relation, type))


async def _relations(
    request: Request,
    services: Services,
    requester: Requester,
    named: tuple[str, str],
    kind: tuple[str | None, str | None],
) -> Response:
    wanted = _wanted(request, request.query_params.get("dir", "b"), EventFilter())
    return text_answer(await services.messages.relations(viewer_of(requester, services), *named, kind, wanted))


@router.get(_ROOM + "/state")
async def state(room_id: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/state."""
    return text_answer(await services.room_reads.state(viewer_of(requester, services), room_id))


@router.get(_STATE)
async def state_event(
    room_id: str, type: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}."""
    return await _state_event(request, services, requester, room_id, (type, ""))


@router.get(_STATE + "/{state_key:id0}")
async def state_event_with_key(
    room_id: str, type: str, state_key: str, request: Request, services: WithServices, requester: WithRequester
) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}."""
    return await _state_event(request, services, requester, room_id, (type, state_key))


async def _state_event(
    request: Request, services: Services, requester: Requester, room_id: str, key: tuple[str, str]
) -> Response:
    form = request.query_params.get("format", "content")
    if form not in ("content", "event"):
        raise invalid_param("format must be content or event")
    viewer = viewer_of(requester, services)
    return text_answer(await services.room_reads.state_event(viewer, room_id, key, whole=form == "event"))


@router.get(_ROOM + "/members")
async def members(room_id: str, request: Request, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/members."""
    named = [request.query_params.get(name) for name in ("membership", "not_membership")]
    for membership in named:
        if membership is not None and membership not in _MEMBERSHIPS:
            raise invalid_param("Unknown membership")
    wanted = MembersWanted(request.query_params.get("at"), *named)
    return text_answer(await services.room_reads.members(viewer_of(requester, services), room_id, wanted))


@router.get(_ROOM + "/joined_members")
async def joined_members(room_id: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/rooms/{roomId}/joined_members."""
    return text_answer(await services.room_reads.joined_members(viewer_of(requester, services), room_id))


def viewer_of(requester: Requester, services: Services) -> Viewer:
    """Who looks, now."""
    return Viewer(requester.user_id, requester.device_id, services.clock())


def _wanted(request: Request, direction: str, wanted: EventFilter) -> MessagesWanted:
    if direction not in ("b", "f"):
        raise invalid_param("dir must be b or f")
    query = request.query_params
    limit = min(query_int(request, "limit", LIMIT_DEFAULT), LIMIT_MAX)
    # An empty token is none: some clients send one.
    return MessagesWanted(direction == "b", query.get("from") or None, query.get("to") or None, limit, wanted)


def _filter_of(request: Request) -> EventFilter:
    text = request.query_params.get("filter")
    if not text:
        return EventFilter()
    definition = as_object(parse_json(text.encode("utf-8", "surrogatepass")))
    checked(RoomEventFilter, definition)
    try:
        return event_filter(definition)
    except BadFilter as error:
        raise invalid_param(f"filter: {error}") from None


HOT_ROUTES = (HotRoute("GET", "/_matrix/client/v3/rooms/{room_id}/messages", messages),)

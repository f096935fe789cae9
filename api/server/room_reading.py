"""What servers read of rooms (server-server API, "Retrieving events", "Backfilling and retrieving missing events")."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer, text_answer
from annals.api.auth.server import InTurn, WithServer
from annals.api.bodies import Body, checked, query_int
from annals.api.errors import missing_param
from annals.api.moments import query_moment
from annals.api.services import Services, WithServices
from annals.queries.federation.reads import EARLIEST_MAX, NAMED_MAX
from annals.queries.federation.walks import Walk

router = APIRouter()

_BASE = "/_matrix/federation/v1"
_LIMIT_DEFAULT = 10


class MissingEventsBody(Body):
    """POST /get_missing_events/{roomId}."""

    latest_events: list[str] = Field(max_length=NAMED_MAX)
    # All heads of the room that the asking server has, which may be many.
    earliest_events: list[str]
    limit: int = _LIMIT_DEFAULT
    min_depth: int = 0


@router.get(_BASE + "/event/{event_id:id}")
async def event(event_id: str, services: WithServices, server: WithServer) -> Response:
    """GET /_matrix/federation/v1/event/{eventId}."""
    return _transaction(services, await services.federation_reads.event(server.origin, event_id))


@router.get(_BASE + "/state/{room_id:id}")
async def state(room_id: str, request: Request, services: WithServices, server: InTurn) -> Response:
    """GET /_matrix/federation/v1/state/{roomId}."""
    return text_answer(await services.federation_reads.state(server.origin, room_id, _event_id(request)))


@router.get(_BASE + "/state_ids/{room_id:id}")
async def state_ids(room_id: str, request: Request, services: WithServices, server: InTurn) -> Response:
    """GET /_matrix/federation/v1/state_ids/{roomId}."""
    return answer(await services.federation_reads.state_ids(server.origin, room_id, _event_id(request)))


@router.get(_BASE + "/event_auth/{room_id:id}/{event_id:id}")
async def event_auth(room_id: str, event_id: str, services: WithServices, server: InTurn) -> Response:
    """GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}."""
    return answer(await services.federation_reads.event_auth(server.origin, room_id, event_id))


@router.get(_BASE + "/backfill/{room_id:id}")
async def backfill(room_id: str, request: Request, services: WithServices, server: InTurn) -> Response:
    """GET /_matrix/federation/v1/backfill/{roomId}."""
    named = request.query_params.getlist("v")
    if not named:
        raise missing_param("v")
    if "limit" not in request.query_params:
        raise missing_param("limit")
    walk = Walk(tuple(dict.fromkeys(named[:NAMED_MAX])), query_int(request, "limit", _LIMIT_DEFAULT))
    return _transaction(services, await services.federation_reads.backfill(server.origin, room_id, walk))


@router.post(_BASE + "/get_missing_events/{room_id:id}")
async def missing_events(room_id: str, services: WithServices, server: InTurn) -> Response:
    """POST /_matrix/federation/v1/get_missing_events/{roomId}."""
    body = checked(MissingEventsBody, server.content)
    walk = Walk(
        tuple(dict.fromkeys(body.latest_events)),
        max(0, body.limit),
        tuple(dict.fromkeys(body.earliest_events[:EARLIEST_MAX])),
        max(0, body.min_depth),
    )
    return answer(await services.federation_reads.missing_events(server.origin, room_id, walk))


@router.get(_BASE + "/timestamp_to_event/{room_id:id}")
async def timestamp_to_event(room_id: str, request: Request, services: WithServices, server: WithServer) -> Response:
    """GET /_matrix/federation/v1/timestamp_to_event/{roomId}."""
    moment = query_moment(request)
    return answer(await services.federation_reads.near(server.origin, room_id, moment))


def _event_id(request: Request) -> str:
    event_id = request.query_params.get("event_id")
    if event_id is None:
        raise missing_param("event_id")
    return event_id


def _transaction(services: Services, found: dict[str, Any]) -> Response:
    # "A transaction containing …"
    return answer({"origin": services.settings.server_name, "origin_server_ts": services.clock(), **found})

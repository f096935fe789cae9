"""What other servers ask first: our keys and our version, and what we know of the keys of others. None is signed."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer, text_answer
from annals.api.bodies import query_int, read_object
from annals.api.services import WithServices
from annals.ingest.key_notary import read_wanted

router = APIRouter()


@router.get("/_matrix/key/v2/server")
async def server_keys(services: WithServices) -> Response:
    """GET /_matrix/key/v2/server."""
    return text_answer(services.server_keys())


@router.get("/_matrix/key/v2/server/{key_id:id}")
async def server_key(key_id: str, services: WithServices) -> Response:
    """GET /_matrix/key/v2/server/{keyId}, which older servers ask: all keys, as always."""
    return text_answer(services.server_keys())


@router.post("/_matrix/key/v2/query")
async def query_keys(request: Request, services: WithServices) -> Response:
    """POST /_matrix/key/v2/query."""
    wanted = read_wanted(await read_object(request), services.clock())
    return answer({"server_keys": await services.notary.answers(wanted)})


@router.get("/_matrix/key/v2/query/{server_name:id}")
async def query_keys_of(server_name: str, request: Request, services: WithServices) -> Response:
    """GET /_matrix/key/v2/query/{serverName}."""
    until_ms = query_int(request, "minimum_valid_until_ts", services.clock())
    return answer({"server_keys": await services.notary.answers({server_name: {}}, until_ms)})


@router.get("/_matrix/federation/v1/version")
async def version(services: WithServices) -> Response:
    """GET /_matrix/federation/v1/version."""
    return answer({"server": {"name": "Annals", "version": services.settings.version}})

"""What other servers ask first: our keys and our version."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from annals.api.answers import answer, text_answer
from annals.api.services import WithServices

router = APIRouter()


@router.get("/_matrix/key/v2/server")
async def server_keys(services: WithServices) -> Response:
    """GET /_matrix/key/v2/server."""
    return text_answer(services.server_keys())


@router.get("/_matrix/federation/v1/version")
async def version(services: WithServices) -> Response:
    """GET /_matrix/federation/v1/version."""
    return answer({"server": {"name": "Annals", "version": services.settings.version}})

"""What a client asks first: versions, well-known documents, capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.auth.tokens import WithRequester
from annals.api.errors import not_found
from annals.api.services import WithServices

router = APIRouter()

# What a client may rely on by name; endpoints that are not there yet answer M_UNRECOGNIZED.
_VERSIONS = answer({"versions": [f"v1.{minor}" for minor in range(1, 17)], "unstable_features": {}}).body


@router.get("/_matrix/client/versions")
async def versions() -> Response:
    """GET /_matrix/client/versions."""
    return Response(_VERSIONS, media_type="application/json")


@router.get("/.well-known/matrix/client")
async def well_known_client(services: WithServices) -> Response:
    """GET /.well-known/matrix/client."""
    return _document(services.settings.well_known_client)


@router.get("/.well-known/matrix/server")
async def well_known_server(services: WithServices) -> Response:
    """GET /.well-known/matrix/server."""
    return _document(services.settings.well_known_server)


@router.get("/.well-known/matrix/support")
async def well_known_support(services: WithServices) -> Response:
    """GET /.well-known/matrix/support."""
    return _document(services.settings.well_known_support)


@router.get("/_matrix/client/v3/capabilities")
async def capabilities(services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/capabilities."""
    settings = services.settings
    return answer(
        {
            "capabilities": {
                "m.room_versions": {
                    "default": settings.default_room_version,
                    "available": dict(settings.room_versions),
                },
                # "When not listed, clients should assume the user is able to": what we lack must be listed.
                "m.change_password": {"enabled": False},
                "m.3pid_changes": {"enabled": False},
                "m.get_login_token": {"enabled": False},
                "m.profile_fields": {"enabled": True},
                "m.set_displayname": {"enabled": True},
                "m.set_avatar_url": {"enabled": True},
            }
        }
    )


def _document(document: Mapping[str, Any] | None) -> Response:
    if document is None:
        raise not_found()
    return answer(dict(document))

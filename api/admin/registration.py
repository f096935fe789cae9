"""/_synapse/admin/v1/register: accounts, administrators too, for whoever holds the shared secret.

    GET  → {"nonce": …}
    POST ← nonce, username, password, admin, mac = HMAC-SHA1(secret, nonce NUL username NUL password NUL [not]admin)

A nonce carries its own time and proof, so that any process takes what another gave; each process takes one only once.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer
from annals.api.appservices import check_user
from annals.api.bodies import Body, body_of
from annals.api.client.login import session_content
from annals.api.errors import ApiError, forbidden, unrecognized
from annals.api.services import Services, WithServices, request_id_of
from annals.commands.accounts import DeviceWish

router = APIRouter()

NONCE_VALID_MS = 60_000
_USED_MAX = 10_000
_used: dict[str, None] = {}


class AdminRegisterBody(Body):
    """The POST's body."""

    nonce: str
    username: str
    password: str
    mac: str
    admin: bool = False
    user_type: str | None = None


@router.get("/_synapse/admin/v1/register")
async def give_nonce(services: WithServices) -> Response:
    """GET /_synapse/admin/v1/register."""
    secret = _secret(services)
    said = f"{services.clock():x}.{secrets.token_hex(16)}"
    return answer({"nonce": f"{said}.{_proof(secret, said)}"})


@router.post("/_synapse/admin/v1/register")
async def register(
    request: Request, services: WithServices, body: Annotated[AdminRegisterBody, Depends(body_of(AdminRegisterBody))]
) -> Response:
    """POST /_synapse/admin/v1/register."""
    secret = _secret(services)
    if not _is_fresh(secret, body.nonce, services.clock()):
        raise ApiError(400, "M_UNKNOWN", "unrecognised nonce")
    parts = [body.nonce, body.username, body.password, "admin" if body.admin else "notadmin"]
    if body.user_type is not None:
        parts.append(body.user_type)
    wanted = hmac.new(secret.encode(), "\0".join(parts).encode(), "sha1").hexdigest()
    if not hmac.compare_digest(wanted.encode(), body.mac.encode()):
        raise forbidden("HMAC incorrect")
    _take(body.nonce)
    check_user(services.appservices, services.accounts.new_user_id(body.username), None)
    session = await services.accounts.register(
        body.username, body.password, DeviceWish(), admin=body.admin, cause=request_id_of(request)
    )
    return answer(session_content(session, services))


def _secret(services: Services) -> str:
    secret = services.settings.registration_shared_secret
    if secret is None:
        raise unrecognized()
    return secret


def _proof(secret: str, said: str) -> str:
    return hmac.new(secret.encode(), b"nonce\0" + said.encode(), "sha256").hexdigest()[:32]


def _is_fresh(secret: str, nonce: str, now_ms: int) -> bool:
    said, _, proof = nonce.rpartition(".")
    if not hmac.compare_digest(_proof(secret, said).encode(), proof.encode()) or nonce in _used:
        return False
    given_ms = int(said.partition(".")[0], 16)
    return 0 <= now_ms - given_ms <= NONCE_VALID_MS


def _take(nonce: str) -> None:
    _used[nonce] = None
    while len(_used) > _USED_MAX:
        del _used[next(iter(_used))]

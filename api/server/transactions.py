"""PUT /_matrix/federation/v1/send: what other servers push. A hot route."""

from __future__ import annotations

from starlette.requests import Request

from annals.api.auth.server import authenticate_server
from annals.api.auth.turns import RETRY_AFTER_S
from annals.api.errors import ApiError
from annals.api.hot import HotRoute
from annals.api.services import request_id_of, services_of
from annals.ingest.inbound.transaction import TransactionRefused


async def send(request: Request, parameters: dict[str, str]) -> bytes:
    """PUT /_matrix/federation/v1/send/{txnId}."""
    services = services_of(request)
    sent = await authenticate_server(request, services)
    try:
        return await services.receiver.receive(
            sent.origin, parameters["transaction_id"], sent.content, request_id_of(request)
        )
    except TransactionRefused as error:
        if error.status != 429:
            raise ApiError(error.status, error.errcode, str(error)) from None
        extra = {"retry_after_ms": RETRY_AFTER_S * 1000}
        raise ApiError(error.status, error.errcode, str(error), extra, RETRY_AFTER_S) from None


HOT_ROUTES = (HotRoute("PUT", "/_matrix/federation/v1/send/{transaction_id}", send),)

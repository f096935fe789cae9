"""Filters ("Filtering")."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from annals.api.answers import answer, text_answer
from annals.api.auth.tokens import Requester, WithRequester
from annals.api.bodies import checked, read_object
from annals.api.client.filter_body import FilterBody
from annals.api.errors import forbidden, not_found
from annals.api.services import WithServices, request_id_of

router = APIRouter()


@router.post("/_matrix/client/v3/user/{user_id:id}/filter")
async def add_filter(user_id: str, request: Request, services: WithServices, requester: WithRequester) -> Response:
    """POST /_matrix/client/v3/user/{userId}/filter."""
    definition = await read_object(request)
    _check_own(user_id, requester)
    checked(FilterBody, definition)
    return answer({"filter_id": await services.user_data.add_filter(user_id, definition, request_id_of(request))})


@router.get("/_matrix/client/v3/user/{user_id:id}/filter/{filter_id:id}")
async def get_filter(user_id: str, filter_id: str, services: WithServices, requester: WithRequester) -> Response:
    """GET /_matrix/client/v3/user/{userId}/filter/{filterId}."""
    _check_own(user_id, requester)
    definition = await services.account_reads.filter(user_id, filter_id)
    if definition is None:
        raise not_found("No such filter")
    return text_answer(definition)


def _check_own(user_id: str, requester: Requester) -> None:
    if user_id != requester.user_id:
        raise forbidden("These are another user's filters")

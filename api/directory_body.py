"""What is asked of a directory of rooms, by clients and servers alike."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from annals.api.bodies import Body, checked, query_int
from annals.queries.public_rooms import LIMIT_MAX, DirectoryWanted


class DirectoryFilter(Body):
    """`filter` of POST /publicRooms."""

    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class DirectoryBody(Body):
    """POST /publicRooms, of both APIs."""

    limit: int | None = None
    since: str | None = None
    filter: DirectoryFilter | None = None


def wanted_in_query(request: Request) -> DirectoryWanted:
    """Of a GET."""
    return DirectoryWanted(query_int(request, "limit", LIMIT_MAX), request.query_params.get("since"))


def wanted_in_body(content: dict[str, Any]) -> DirectoryWanted:
    """Of a POST; 400 for wrong types."""
    body = checked(DirectoryBody, content)
    types = None if body.filter is None or body.filter.room_types is None else frozenset(body.filter.room_types)
    search = None if body.filter is None else body.filter.generic_search_term
    return DirectoryWanted(None if body.limit is None else max(0, body.limit), body.since, search, types)

"""The query of `timestamp_to_event`, which both APIs have."""

from __future__ import annotations

from starlette.requests import Request

from annals.api.bodies import query_int
from annals.api.errors import invalid_param, missing_param
from annals.queries.moments import Moment

_TIME_MAX_MS = (1 << 53) - 1


def query_moment(request: Request) -> Moment:
    """Its `ts` and `dir`; 400 M_MISSING_PARAM or M_INVALID_PARAM without them."""
    direction = request.query_params.get("dir")
    for name in ("ts", "dir"):
        if name not in request.query_params:
            raise missing_param(name)
    if direction not in ("b", "f"):
        raise invalid_param("dir must be b or f")
    return Moment(min(query_int(request, "ts", 0), _TIME_MAX_MS), forwards=direction == "f")

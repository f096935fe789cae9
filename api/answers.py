"""JSON answers."""

from __future__ import annotations

import json
from typing import Any

import orjson
from starlette.responses import Response

from annals.api.errors import ApiError

JSON_TYPE = "application/json"


def json_bytes(value: Any) -> bytes:
    """JSON text of an answer. Where orjson cannot say it (integers beyond 64 bits, lone surrogates), the slow writer
    can: an answer that was let in must also get out."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(json_bytes(value), status, media_type=JSON_TYPE)


def text_answer(body: bytes, status: int = 200) -> Response:
    """An answer whose JSON text is ready."""
    return Response(body, status, media_type=JSON_TYPE)


def error_answer(error: ApiError) -> Response:
    """The error object, with Retry-After where there is one."""
    response = answer(error.content(), error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response

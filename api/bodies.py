"""Reading what a client sends: bodies in bounded memory, JSON objects, models of them, and query parameters.

The content type is not looked at: many clients send none, or a wrong one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from annals.api.errors import ApiError, bad_json, invalid_param
from annals.matrix import canonical_json
from annals.matrix.errors import InvalidJson

# An event is at most 64 KiB; account data and filters get some more room.
BODY_BYTES_MAX = 256 * 1024


class Body(BaseModel):
    """Base of the bodies of requests: types are taken strictly, unknown keys are left alone."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


M = TypeVar("M", bound=BaseModel)


async def read_bytes(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The whole body; 413 M_TOO_LARGE as soon as it is known to be longer than `bytes_max`."""
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdecimal() and int(declared[:20]) > bytes_max:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > bytes_max:
                raise _too_large()
            chunks.append(chunk)
    except ClientDisconnect:
        raise ApiError(400, "M_UNKNOWN", "The client went away") from None
    return b"".join(chunks)


async def read_object(request: Request, bytes_max: int = BODY_BYTES_MAX, empty_ok: bool = False) -> dict[str, Any]:
    """The body as a JSON object; 400 M_NOT_JSON or M_BAD_JSON. With `empty_ok`, no body is an empty object."""
    body = await read_bytes(request, bytes_max)
    if empty_ok and not body:
        return {}
    return as_object(parse_json(body))


def parse_json(body: bytes) -> Any:
    """One JSON text, exactly: integers of any size stay integers; the last of a duplicate key counts."""
    try:
        return canonical_json.loads(body)
    except InvalidJson:
        raise ApiError(400, "M_NOT_JSON", "The body is not JSON") from None


def as_object(value: Any) -> dict[str, Any]:
    """The value, if it is an object; else 400 M_BAD_JSON."""
    if not isinstance(value, dict):
        raise bad_json("The body is not a JSON object")
    return value


def checked(model: type[M], value: dict[str, Any]) -> M:
    """The object as `model`: 400 M_MISSING_PARAM where a key lacks, M_BAD_JSON where a type is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # Not the input: it may be a password.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        if first["type"] == "missing":
            raise ApiError(400, "M_MISSING_PARAM", f"{where} is missing") from None
        raise bad_json(f"{where}: {first['msg']}") from None


def body_of(model: type[M], empty_ok: bool = False) -> Callable[[Request], Awaitable[M]]:
    """For `Annotated[LoginBody, Depends(body_of(LoginBody))]`."""

    async def read(request: Request) -> M:
        return checked(model, await read_object(request, empty_ok=empty_ok))

    return read


def query_int(request: Request, name: str, default: int, at_least: int = 0) -> int:
    """A whole number in the query; 400 M_INVALID_PARAM for another text or a lower number."""
    text = request.query_params.get(name)
    if text is None:
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18) or int(text) < at_least:
        raise invalid_param(f"{name} must be a whole number of at least {at_least}")
    return int(text)


def query_bool(request: Request, name: str, default: bool = False) -> bool:
    """`true` or `false` in the query; 400 M_INVALID_PARAM for another text."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise invalid_param(f"{name} must be true or false")
    return text == "true"


def _too_large() -> ApiError:
    return ApiError(413, "M_TOO_LARGE", "The body is too large")

"""Errors as clients see them, and which of our exceptions becomes which.

Everything raised while a request is served goes through `as_api_error`: an `ApiError` or a command's `Refused` is the
answer itself, and what only means "not now" is 503 with Retry-After. The rest is a bug: the front answers 500.
"""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from annals.commands import errors as command_errors
from annals.ingest.resident.errors import InputRefused
from annals.queries import errors as query_errors

RETRY_AFTER_S = 1


class ApiError(Exception):
    """An error object of the client-server API ("Standard error response") with its HTTP status."""

    def __init__(
        self,
        status: int,
        errcode: str,
        error: str,
        extra: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.errcode, self.error = status, errcode, error
        self.extra = extra or {}
        self.retry_after_s = retry_after_s

    def content(self) -> dict[str, Any]:
        return {"errcode": self.errcode, "error": self.error, **self.extra}


# What only says that we cannot answer now. A database or log that refuses for another reason is a bug of ours.
_NOT_NOW: tuple[type[Exception], ...] = (*command_errors.NOT_NOW, *query_errors.NOT_NOW, TimeoutError)


def not_found(error: str = "Not found") -> ApiError:
    """404 M_NOT_FOUND."""
    return ApiError(404, "M_NOT_FOUND", error)


def forbidden(error: str) -> ApiError:
    """403 M_FORBIDDEN."""
    return ApiError(403, "M_FORBIDDEN", error)


def invalid_param(error: str) -> ApiError:
    """400 M_INVALID_PARAM."""
    return ApiError(400, "M_INVALID_PARAM", error)


def missing_param(name: str) -> ApiError:
    """400 M_MISSING_PARAM."""
    return ApiError(400, "M_MISSING_PARAM", f"{name} is missing")


def bad_json(error: str) -> ApiError:
    """400 M_BAD_JSON."""
    return ApiError(400, "M_BAD_JSON", error)


def unrecognized(status: int = 404) -> ApiError:
    """No such endpoint (404), or not with this method (405)."""
    return ApiError(status, "M_UNRECOGNIZED", "Unrecognized request")


def not_now(error: str = "The server cannot answer at the moment; try again") -> ApiError:
    """503: the same request may succeed in a moment. Never 401, 403 or 404, which clients act upon."""
    return ApiError(503, "M_UNKNOWN", error, retry_after_s=RETRY_AFTER_S)


def as_api_error(error: Exception) -> ApiError | None:
    """The answer that this exception stands for; None for one that nobody raises on purpose."""
    match error:
        case ApiError():
            return error
        case command_errors.Refused() | InputRefused():
            return ApiError(error.status, error.errcode, error.reason, error.extra)
        case query_errors.NoAccess():
            return forbidden("You are not in this room")
        case query_errors.NotThere():
            return not_found()
        case query_errors.BadPlace():
            return invalid_param("A token that this server did not give")
        case query_errors.NoAccess():
            return forbidden("You are not, and were not, in this room")
        case query_errors.NotThere():
            return not_found()
        case query_errors.BadPlace():
            return invalid_param("The token names no place in this room")
        case HTTPException(status_code=405):
            return unrecognized(405)
        case HTTPException(status_code=404):
            return unrecognized()
        case HTTPException():
            return ApiError(error.status_code, "M_UNKNOWN", str(error.detail))
        case RequestValidationError():
            # Only endpoints that declare query parameters the FastAPI way; bodies are read in bodies.py.
            first = error.errors()[0]
            return invalid_param(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    if isinstance(error, _NOT_NOW):
        return not_now()
    return None

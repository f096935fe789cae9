"""Why something that another server handed in is not taken."""

from __future__ import annotations

from typing import Any


class InputRefused(Exception):
    """Nothing was logged, or what was logged is not in the room: the Matrix error is the answer."""

    def __init__(self, status: int, errcode: str, reason: str, extra: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.status, self.errcode, self.reason = status, errcode, reason
        self.extra = extra or {}


def invalid(reason: str) -> InputRefused:
    """400 M_INVALID_PARAM, as the specification has it for events that are not what their endpoint is for."""
    return InputRefused(400, "M_INVALID_PARAM", reason)


def forbidden(reason: str) -> InputRefused:
    """403 M_FORBIDDEN."""
    return InputRefused(403, "M_FORBIDDEN", reason)

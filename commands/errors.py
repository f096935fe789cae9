"""What a command answers when it does not do what was asked.

Refused      the request cannot be granted: its Matrix error code and HTTP status are the answer
NOT_NOW      nothing is wrong with the request, but its outcome is not known in time: 503, and the same request again
             attaches to what the first one began (annals.projectors.positions.errors)
"""

from __future__ import annotations

from typing import Any

from annals.projectors.positions.errors import NOT_NOW, LogBehindTables, TryAgain

__all__ = ["NOT_NOW", "LogBehindTables", "Refused", "TryAgain"]


class Refused(Exception):
    """`errcode` as in the client-server API ("Standard error response"); `status` is the one the endpoint's
    specification gives; `extra` are further keys of the error object."""

    def __init__(self, status: int, errcode: str, reason: str, extra: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.status, self.errcode, self.reason = status, errcode, reason
        self.extra = extra or {}

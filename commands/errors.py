"""What a command answers when it does not do what was asked.

CommandError
├── Refused      the request cannot be granted: its Matrix error code and HTTP status are the answer
├── LogBehindTables   the log was set back while the server ran: an operator has to act; 503 until then
└── TryAgain     nothing is wrong with the request, but its outcome is not known in time: 503, and the same
                 request again attaches to what the first one began
"""

from __future__ import annotations

from typing import Any

from annals.eventlog.errors import AppendFailed, BackPressure, LogClosed, LogUnavailable


class CommandError(Exception):
    """Base of what commands raise on purpose."""


class Refused(CommandError):
    """`errcode` as in the client-server API ("Standard error response"); `status` is the one the endpoint's
    specification gives; `extra` are further keys of the error object."""

    def __init__(self, status: int, errcode: str, reason: str, extra: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.status, self.errcode, self.reason = status, errcode, reason
        self.extra = extra or {}


class TryAgain(CommandError):
    """A wait ran out, or a queue was full. Some facts may be on the log already."""


class LogBehindTables(CommandError):
    """A record was given an offset that the tables have passed. What stands there in the tables is another fact's
    outcome: nothing that was appended since is ours to answer."""


#: The request may be repeated in a moment: 503.
NOT_NOW: tuple[type[Exception], ...] = (
    TryAgain,
    LogBehindTables,
    BackPressure,
    AppendFailed,
    LogClosed,
    LogUnavailable,
)

"""Why a fact's outcome is not known in time; the request may be repeated, and attaches to what the first one began."""

from __future__ import annotations

from annals.eventlog.errors import AppendFailed, BackPressure, LogClosed, LogUnavailable


class TryAgain(Exception):
    """A wait ran out, or a queue was full. Some facts may be on the log already."""


class LogBehindTables(Exception):
    """A record was given an offset that the tables have passed, or the log says that it went back. What stands in the
    tables is another fact's outcome: nothing that was appended since is ours to answer."""


#: The request may be repeated in a moment: 503.
NOT_NOW: tuple[type[Exception], ...] = (
    TryAgain,
    LogBehindTables,
    BackPressure,
    AppendFailed,
    LogClosed,
    LogUnavailable,
)

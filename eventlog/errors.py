"""What can go wrong with a log. Callers catch `LogError`, or the kind that they can answer."""

from __future__ import annotations


class LogError(Exception):
    """Root of all errors of a log."""


class BackPressure(LogError):
    """The append queue is full. Nothing of the call was queued: answer 503, or wait and call again."""


class AppendFailed(LogError):
    """The records are not known to be on disk. They may still turn up (a crash between write and sync): retry under
    the same idempotency key."""


class RecordTooLarge(LogError):
    """Key and value together exceed `api.MAX_RECORD_BYTES`. Nothing of the call was queued."""


class UnknownTopic(LogError):
    """No such topic, or no such partition of it, in this log."""


class TopicsDiffer(LogError):
    """A topic of the log is not as its specification says. `differences` names each difference, for people."""

    def __init__(self, differences: list[str]) -> None:
        super().__init__("topics of the log differ from their specification: " + "; ".join(differences))
        self.differences = differences


class LogWentBack(LogError):
    """The log is not what it was when the caller's position was taken. Stop: an operator must look into it."""


class PositionBeyondEnd(LogWentBack):
    """A reader stands behind the log's end: this log was restored from an older state, or made anew."""

    def __init__(self, topic: str, partition: int, offset: int, end: int) -> None:
        super().__init__(f"position {offset} of {topic}[{partition}] lies behind its end {end}")
        self.topic, self.partition, self.offset, self.end = topic, partition, offset, end


class RecordsGone(LogWentBack):
    """A topic that is kept for ever lacks records that stood at a reader's position: they were deleted, or it was made
    anew."""


class TopicReplaced(LogWentBack):
    """A topic was deleted and made anew since this process opened the log: its positions mean nothing now."""


class LogNotInitialised(LogError):
    """Nobody has made this log yet: `annals log init` does."""


class LogClosed(LogError):
    """The log, or the tail, was closed, or belongs to the process that this one was forked from."""


class LogCorrupt(LogError):
    """The file is not a log of ours, or damaged. Restore it: nothing repairs it by itself."""


class LogUnavailable(LogError):
    """The log cannot be read or opened now (disk, permissions, broker). Later it may be."""

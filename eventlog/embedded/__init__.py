"""The log of one machine: a SQLite file, no service."""

from annals.eventlog.embedded.log import EmbeddedLog, has_log, open_embedded

__all__ = ["EmbeddedLog", "has_log", "open_embedded"]

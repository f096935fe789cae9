"""The log of one machine: a SQLite file, no service."""

from annals.eventlog.embedded.log import EmbeddedLog, open_embedded

__all__ = ["EmbeddedLog", "open_embedded"]

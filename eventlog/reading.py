"""Reading a part of the log from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterator

from annals.eventlog.api import Log, Record


def records_between(log: Log, topic: str, partition: int, start: int, end: int | None = None) -> Iterator[Record]:
    """The records of a partition from `start` up to `end`, or to where the log ends now."""
    limit = log.end(topic, partition) if end is None else end
    while start < limit:
        records = log.read(topic, partition, start)
        if not records:
            return
        for record in records:
            if record.offset >= limit:
                return
            yield record
        start = records[-1].offset + 1

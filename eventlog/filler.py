"""Fillers: what stands at the offsets that compaction or age left empty, in a log that was copied 1:1.

A back-end counts offsets by itself, so that the only way to give a record the offset that it has elsewhere is to append
something for each gap before it. A filler has no value, so that nothing that asks for facts takes it for one, and the
empty key, which no record of ours has: it deletes no key. All fillers share that key, so that compaction of the copy
removes them again, all but the last, and that one as an old tombstone: then there is a gap once more, as in the log
that was copied, and all offsets stay.
"""

from __future__ import annotations

from annals.eventlog.api import Append, Record

FILLER_KEY = b""


def filler(topic: str, partition: int) -> Append:
    """What is appended for one offset at which nothing stands."""
    return Append(topic, partition, FILLER_KEY, None)


def is_filler(record: Record) -> bool:
    """Whether the record only holds its offset's place. It says nothing of any key: readers pass over it."""
    return record.value is None and record.key == FILLER_KEY

"""One operator at a time: a connection for what two must not do at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from annals.audit.errors import GenerationInUse
from annals.database.pool import Database
from annals.database.write_connection import WriteConnection
from annals.eventlog.api import TopicPartition

# One such command at a time. Any number that nobody else in this database uses; ASCII "switch".
_ADVISORY_LOCK = 0x737769746368
LOCK_WAIT_S = 3.0
_LOOK_AGAIN_S = 0.005

Vector = Mapping[TopicPartition, int]


@contextmanager
def operators_connection(database: Database) -> Iterator[WriteConnection]:
    """A connection for what must not be lost, and must not be done by two at once. Raises GenerationInUse."""
    connection = WriteConnection(database.url, purpose="operator", synchronous_commit=True)
    try:
        deadline_s = time.monotonic() + LOCK_WAIT_S
        while connection.one("SELECT pg_try_advisory_lock(%s)", (_ADVISORY_LOCK,)) != (True,):
            if time.monotonic() > deadline_s:
                raise GenerationInUse("another switch or diff is under way")
            time.sleep(_LOOK_AGAIN_S)
        yield connection
    finally:
        connection.close()

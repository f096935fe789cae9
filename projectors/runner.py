"""The role `projectors`: one loop over all partitions, until told to stop."""

from __future__ import annotations

import secrets
import threading

import structlog

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.projectors import metrics
from annals.projectors.loop import Loop, Settings
from annals.schemas.topics import decisions_topic

_logger = structlog.get_logger(__name__)

_LAG_S = 2.0
# Our rows are ours alone: who waits this long for a lock waits for an owner that is stuck.
_LOCK_TIMEOUT_MS = 10_000


def run(log: Log, database_url: str, generation: str, server_name: str, stop: threading.Event) -> None:
    """Project until `stop` is set; blocks. The generation's tables must be there.

    Raises CannotTake where an operator has to act, or where another process took over.
    """
    log.ensure_topics([decisions_topic(generation)])

    def connect() -> WriteConnection:
        return WriteConnection(database_url, generation, purpose="projectors", lock_timeout_ms=_LOCK_TIMEOUT_MS)

    owner = f"projectors-{secrets.token_hex(6)}"
    loop = Loop(log, connect, Settings(generation, server_name, owner))
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(log, loop, stop, ended), name="projectors-watch", daemon=True)
    watcher.start()
    _logger.info("projectors_start", owner=owner, generation=generation)
    try:
        loop.run()
    finally:
        ended.set()
        watcher.join()
        _logger.info("projectors_end", owner=owner)


def _watch(log: Log, loop: Loop, stop: threading.Event, ended: threading.Event) -> None:
    """Wake the loop when it shall stop; say meanwhile how far it is behind."""
    while not ended.is_set():
        if stop.wait(_LAG_S):
            loop.stop()
            ended.wait(_LAG_S)
            continue
        for (group, topic, partition), offset in loop.positions.items():
            metrics.LAG.labels(group, partition).set(log.end(topic, partition) - offset)

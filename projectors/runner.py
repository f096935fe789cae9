"""The role `projectors`: one loop over all partitions, until told to stop."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Mapping

import structlog

from annals.database.write_connection import WriteConnection
from annals.eventlog.api import Log
from annals.eventlog.errors import LogError
from annals.projectors import metrics
from annals.projectors.errors import GroupPartition
from annals.projectors.interpreter import set_for_projecting
from annals.projectors.loop import Loop, Settings
from annals.schemas.topics import decisions_topic

_logger = structlog.get_logger(__name__)

_LAG_S = 2.0
# Our rows are ours alone: who waits this long for a lock waits for an owner that is stuck.
_LOCK_TIMEOUT_MS = 10_000


def run(log: Log, database_url: str, generation: str, server_name: str, stop: threading.Event) -> None:
    """Project until `stop` is set; blocks. The generation's tables must be there.

    Raises CannotTake where an operator has to act, or where another process took over; TopicsDiffer.
    """
    # Who made the generation made its topic: a start makes nothing on a log that others use too.
    log.check_topics([decisions_topic(generation)])

    def connect() -> WriteConnection:
        return WriteConnection(database_url, generation, purpose="projectors", lock_timeout_ms=_LOCK_TIMEOUT_MS)

    owner = f"projectors-{secrets.token_hex(6)}"
    loop = Loop(log, connect, Settings(generation, server_name, owner))
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(log, loop, stop, ended), name="projectors-watch", daemon=True)
    watcher.start()
    _logger.info("projectors_start", owner=owner, generation=generation)
    try:
        with set_for_projecting():
            loop.run()
    finally:
        ended.set()
        watcher.join()
        _logger.info("projectors_end", owner=owner)


def _watch(log: Log, loop: Loop, stop: threading.Event, ended: threading.Event) -> None:
    """Wake the loop when it shall stop; say meanwhile how far it is behind."""
    said: set[tuple[str, int]] = set()
    while not ended.is_set():
        if stop.wait(_LAG_S):
            loop.stop()
            ended.wait(_LAG_S)
            continue
        try:
            said = _say_lag(log, loop.positions, said)
        except LogError as error:
            _logger.warning("lag_unknown", error=repr(error))


def _say_lag(
    log: Log, positions: Mapping[GroupPartition, int], said: Collection[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Of the partitions that are ours, and no more of those that were: another process speaks of them."""
    ends = {topic: log.ends(topic) for topic in {topic for _, topic, _ in positions}}
    for (group, topic, partition), offset in positions.items():
        metrics.LAG.labels(group, partition).set(max(0, ends[topic][partition] - offset))
    ours = {(group, partition) for group, _, partition in positions}
    for group, partition in set(said) - ours:
        metrics.LAG.labels(group, partition).set(0)
    return ours

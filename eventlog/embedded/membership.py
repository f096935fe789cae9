"""One machine's log has no coordinator: whoever joined last has all partitions, and the fence tells the one before."""

from __future__ import annotations

import time

from annals.eventlog.api import TopicPartition


class EmbeddedMembership:
    """See `api.Membership`."""

    shared = False

    def __init__(self, partitions: frozenset[TopicPartition]) -> None:
        self._partitions = partitions
        self._told = False

    def poll(self, timeout_s: float = 0.0) -> frozenset[TopicPartition]:
        if self._told and timeout_s > 0:
            time.sleep(timeout_s)
        self._told = True
        return self._partitions

    def close(self) -> None:
        self._partitions = frozenset()

"""Which partitions are ours to work on, as the log's coordinator spreads them (annals.eventlog.api.Membership)."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from annals.eventlog.api import Log, Membership, TopicPartition
from annals.projectors.errors import GroupPartition
from annals.projectors.groups import GROUPS


class Alone:
    """A membership that nobody shares: a replay's. See annals.eventlog.api.Membership."""

    shared = False

    def __init__(self, partitions: frozenset[TopicPartition]) -> None:
        self._partitions = partitions

    def poll(self, timeout_s: float = 0.0) -> frozenset[TopicPartition]:
        """All, at once."""
        return self._partitions

    def close(self) -> None:
        """Nobody is told."""


class Share:
    """Our place among the processes that project a generation. `assigned` is in the order of GROUPS."""

    def __init__(self, log: Log, groups: Sequence[str], generation: str, *, alone: bool) -> None:
        self._keys = keys_of(log, groups)
        self._membership: Membership
        if alone:
            self._membership = Alone(frozenset((topic, partition) for _, topic, partition in self._keys))
        else:
            topics = [group.topic for group in GROUPS.values() if group.name in groups]
            self._membership = log.join(f"projectors.{generation}", topics)
        self.assigned: Sequence[GroupPartition] = ()
        self._answer: object = None
        self._since_s: dict[GroupPartition, float] = {}

    @property
    def shared(self) -> bool:
        """Whether others may hold partitions beside us."""
        return self._membership.shared

    def poll(self, timeout_s: float = 0.0) -> Sequence[GroupPartition]:
        """Our sign of life, and what is ours from now on; called with no transaction open. Raises LogUnavailable."""
        answer = self._membership.poll(timeout_s)
        if answer is self._answer:
            return self.assigned
        self._answer = answer
        self.assigned = [key for key in self._keys if key[1:] in answer]
        now_s = time.monotonic()
        self._since_s = {key: self._since_s.get(key, now_s) for key in self.assigned}
        return self.assigned

    def waited_s(self, key: GroupPartition) -> float:
        """How long a partition has been assigned to us."""
        return time.monotonic() - self._since_s[key]

    def close(self) -> None:
        """Leave."""
        self._membership.close()


def keys_of(log: Log, groups: Collection[str]) -> list[GroupPartition]:
    """All partitions of some groups, in the order of GROUPS."""
    chosen: Mapping[str, str] = {group.name: group.topic for group in GROUPS.values() if group.name in groups}
    return [(name, topic, partition) for name, topic in chosen.items() for partition in range(log.partitions(topic))]

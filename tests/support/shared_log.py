"""A log that several members share by a script: the embedded log, with a coordinator that does what a test says."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from annals.eventlog.api import Log, Membership, Tail, TopicPartition
from annals.eventlog.errors import LogUnavailable

Partitions = frozenset[TopicPartition]


class Coordinator:
    """Who has what. With `balances`, members that are in share all partitions evenly; else the test assigns."""

    def __init__(self, *, balances: bool = False) -> None:
        self.joins: dict[str, int] = {}
        self.polls: dict[str, int] = {}
        self.members: dict[str, Partitions] = {}
        self._told: dict[str, Partitions] = {}
        self._balances = balances
        self._topics: list[TopicPartition] = []
        self._changed = threading.Condition()

    def assign(self, name: str, partitions: Sequence[TopicPartition] | Partitions) -> None:
        """From its next poll on these are the member's."""
        with self._changed:
            self.members[name] = frozenset(partitions)
            self._changed.notify_all()

    def join(self, name: str, partitions: list[TopicPartition]) -> None:
        """A member comes, perhaps again."""
        with self._changed:
            self._topics = partitions
            self.joins[name] = self.joins.get(name, 0) + 1
            self.members.setdefault(name, frozenset())
            self._balance()

    def leave(self, name: str) -> None:
        """A member goes: what was its is the others'."""
        with self._changed:
            self._told.pop(name, None)
            if self._balances:
                self.members.pop(name, None)
                self._balance()

    def poll(self, name: str, timeout_s: float) -> Partitions:
        """The member's partitions; waits for a change."""
        with self._changed:
            self.polls[name] = self.polls.get(name, 0) + 1
            if name not in self.members:
                raise LogUnavailable("expelled")
            self._changed.wait_for(lambda: self.members.get(name) != self._told.get(name), timeout_s)
            self._told[name] = self.members.get(name, frozenset())
            return self._told[name]

    def expel(self, name: str) -> None:
        """The member is taken for dead; it learns that late."""
        self.leave(name)

    def _balance(self) -> None:
        if self._balances:
            names = sorted(self.members)
            for index, name in enumerate(names):
                self.members[name] = frozenset(self._topics[index :: len(names)])
            self._changed.notify_all()


class _Place:
    shared = True

    def __init__(self, coordinator: Coordinator, name: str) -> None:
        self._coordinator, self._name = coordinator, name

    def poll(self, timeout_s: float = 0.0) -> Partitions:
        return self._coordinator.poll(self._name, timeout_s)

    def close(self) -> None:
        self._coordinator.leave(self._name)


class MemberLog:
    """A log as one member sees it; what it is asked for it asks of the log behind."""

    def __init__(self, log: Log, coordinator: Coordinator, name: str) -> None:
        self._log = log
        self._coordinator = coordinator
        self._name = name

    def join(self, group: str, topics: Sequence[str]) -> Membership:
        """See annals.eventlog.api.Log."""
        partitions = [(topic, number) for topic in topics for number in range(self._log.partitions(topic))]
        self._coordinator.join(self._name, partitions)
        return _Place(self._coordinator, self._name)

    def tail(self, positions: Mapping[TopicPartition, int]) -> Tail:
        """See annals.eventlog.api.Log."""
        return self._log.tail(positions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def all_partitions(log: Log, topics: Sequence[str]) -> list[TopicPartition]:
    """All partitions of these topics."""
    return [(topic, number) for topic in topics for number in range(log.partitions(topic))]

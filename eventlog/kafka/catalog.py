"""Which topics this log has, and whether they still are what they were."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from annals.eventlog.api import TopicPartition
from annals.eventlog.errors import LogError, TopicReplaced, UnknownTopic
from annals.eventlog.kafka.administration import Administration

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Topic:
    """`whole`: every record that was ever written is there, so a reader meets no gaps."""

    name: str
    partitions: int
    whole: bool
    topic_id: str


class Catalog:
    """Topics are only ever added, so what was once read stays true; a miss asks again.

    `ids`: what the log itself remembers of its topics, by name.
    """

    def __init__(self, administration: Administration, ids: Mapping[str, str]) -> None:
        self._administration = administration
        self._ids = dict(ids)  # each topic's first one that this process knows of
        self._topics: dict[str, Topic] = {}
        self._replaced: frozenset[str] = frozenset()

    def topic(self, name: str) -> Topic:
        """Raises UnknownTopic, TopicReplaced, LogUnavailable."""
        if name in self._replaced:
            raise TopicReplaced(f"topic {name!r} was made anew: see the manual on a log that went back")
        known = self._topics.get(name)
        if known is None:
            self.load([name])
            known = self._topics.get(name)
            if known is None:
                raise UnknownTopic(f"the log has no topic {name!r}")
        return known

    def look_again(self, name: str) -> None:
        """Its end has gone back: raises TopicReplaced where that is because it was made anew."""
        self.load([name])
        self.topic(name)

    def load(self, names: Iterable[str] | None = None) -> None:
        """Reads how these topics stand (None: all), so that no append has to ask a broker that may be away."""
        names = self._administration.names() if names is None else names
        for name, found in self._administration.topics(names).items():
            whole = found.configs.get("cleanup.policy") == "delete" and found.configs.get("retention.ms") == "-1"
            self._topics[name] = Topic(name, found.partitions, whole, found.topic_id)
            if self._ids.setdefault(name, found.topic_id) != found.topic_id:
                self.replaced(name)

    @property
    def ids(self) -> Mapping[str, str]:
        """The id that each topic had when it was first seen."""
        return self._ids

    def replaced(self, name: str) -> None:
        """Somebody has found that this topic is another one."""
        self._replaced |= {name}

    def check(self, topic: str, partition: int) -> Topic:
        """The topic, where it has such a partition."""
        known = self.topic(topic)
        if not 0 <= partition < known.partitions:
            raise UnknownTopic(f"topic {topic!r} has {known.partitions} partitions, none is number {partition}")
        return known

    def all_of(self, topic: str) -> list[TopicPartition]:
        return [(topic, number) for number in range(self.topic(topic).partitions)]

    def look(self) -> bool:
        """Compares the ids of all known topics with the brokers'. True: another one was replaced."""
        ids = self._administration.ids(list(self._topics))
        replaced = frozenset(name for name, topic_id in ids.items() if topic_id != self._ids[name])
        if replaced <= self._replaced:
            return False
        self._replaced |= replaced
        return True


class Watch:
    """The thread that looks now and then whether the brokers still have the log that they had. Who only appends, or
    waits for more, would not see it."""

    def __init__(self, look: Callable[[], None]) -> None:
        """`look` may raise LogError: it is called again."""
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            try:
                self._look()
            except LogError:
                continue

"""Which topics this log has, and which table holds which partition."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from annals.eventlog.embedded.store import Store, create_partition
from annals.eventlog.errors import TopicsDiffer, UnknownTopic
from annals.schemas.topics import TopicSpec


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it stands in the file. `ids`: of its partitions, in order."""

    name: str
    compacted: bool
    retention_ms: int | None
    delete_retention_ms: int
    ids: tuple[int, ...]


class Catalog:
    """Topics are only ever added, so what was once read stays true; a miss reads again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._topics: dict[str, Topic] = {}

    def topic(self, name: str) -> Topic:
        found = self._topics.get(name)
        if found is None:
            self._load()
            found = self._topics.get(name)
        if found is None:
            raise UnknownTopic(f"the log has no topic {name!r}")
        return found

    def partition_id(self, topic: str, partition: int) -> int:
        ids = self.topic(topic).ids
        if not 0 <= partition < len(ids):
            raise UnknownTopic(f"topic {topic!r} has {len(ids)} partitions, none is number {partition}")
        return ids[partition]

    def forget(self) -> None:
        self._topics = {}

    def _load(self) -> None:
        with self._store.reading() as connection:
            self._topics = {topic.name: topic for topic in _read(connection)}


def _read(connection: sqlite3.Connection) -> list[Topic]:
    # Topic and partitions are made in one transaction, but these are two reads: partitions second, so none lacks.
    topics = connection.execute("SELECT name, compacted, retention_ms, delete_retention_ms FROM topics").fetchall()
    ids: dict[str, list[int]] = {}
    rows = connection.execute("SELECT topic, id FROM partitions ORDER BY topic, partition").fetchall()
    for topic, partition_id in rows:
        ids.setdefault(topic, []).append(partition_id)
    return [
        Topic(name, bool(compacted), retention_ms, delete_ms, tuple(ids[name]))
        for name, compacted, retention_ms, delete_ms in topics
    ]


def specs(connection: sqlite3.Connection) -> list[TopicSpec]:
    """All topics, as far as the file describes them."""
    return [
        TopicSpec(topic.name, len(topic.ids), topic.compacted, topic.retention_ms, topic.delete_retention_ms)
        for topic in _read(connection)
    ]


def differences(spec: TopicSpec, topic: Topic) -> list[str]:
    """What keeps a topic from being used as the specification wants. Ages may change, but not begin."""
    found = []
    if len(topic.ids) != spec.partitions:
        found.append(f"{spec.name} has {len(topic.ids)} partitions, not {spec.partitions}")
    if topic.compacted != spec.compacted:
        states = {True: "compacted", False: "not compacted"}
        found.append(f"{spec.name} is {states[topic.compacted]}, should be {states[spec.compacted]}")
    if topic.retention_ms is None and spec.retention_ms is not None:
        found.append(f"{spec.name} is kept for ever, should be kept {spec.retention_ms} ms")
    return found


def check(connection: sqlite3.Connection, specs: Sequence[TopicSpec]) -> None:
    """Raises TopicsDiffer where a topic is missing, or not as the specification wants."""
    present = {topic.name: topic for topic in _read(connection)}
    wrong = [
        line
        for spec in specs
        for line in (differences(spec, present[spec.name]) if spec.name in present else [f"{spec.name} is missing"])
    ]
    if wrong:
        raise TopicsDiffer(wrong)


def ensure(connection: sqlite3.Connection, specs: Sequence[TopicSpec]) -> None:
    """Inside a write transaction. Raises TopicsDiffer before anything is made."""
    present = {topic.name: topic for topic in _read(connection)}
    wrong = [line for spec in specs if spec.name in present for line in differences(spec, present[spec.name])]
    if wrong:
        raise TopicsDiffer(wrong)
    for spec in specs:
        connection.execute(
            "INSERT INTO topics VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
            " retention_ms = excluded.retention_ms, delete_retention_ms = excluded.delete_retention_ms",
            (spec.name, spec.partitions, spec.compacted, spec.retention_ms, spec.delete_retention_ms),
        )
        if spec.name not in present:
            for partition in range(spec.partitions):
                create_partition(connection, spec.name, partition)

"""Questions to the brokers about topics, and orders."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Place

# Its types do not say that it exports them.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from annals.eventlog.api import TopicPartition
from annals.eventlog.errors import LogUnavailable
from annals.eventlog.kafka.failures import LEADER_MOVED, NO_TOPIC, error_of, result, translated
from annals.eventlog.kafka.settings import KafkaSettings, common


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as it stands on the brokers. `topic_id`: another one when it is made anew. `replicas`: the fewest that
    one of its partitions has. `configs`: empty where nobody asked for them."""

    topic_id: str
    partitions: int
    replicas: int
    configs: Mapping[str, str]


class Administration:
    """Takes and gives the names of topics without their namespace. Any thread may use it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._timeout_s = settings.request_timeout_s
        with translated("cannot use these settings for Kafka"):
            self._client = self._make()
        self._former: AdminClient | None = None  # others may wait for its answers

    def _make(self) -> AdminClient:
        # Nobody takes off what it would say of connections; our errors say what its calls met.
        return AdminClient({"log_level": 2, **common(self._settings)})

    def names(self) -> list[str]:
        """All topics of the namespace."""
        prefix = self._settings.topic("")
        with translated("cannot list the topics"):
            listed = self._client.list_topics(timeout=self._timeout_s).topics
        return sorted(name.removeprefix(prefix) for name in listed if name.startswith(prefix))

    def ids(self, names: Iterable[str]) -> dict[str, str]:
        """The id of each of these topics that exists."""
        return {name: found.topic_id for name, found in self._described(names).items()}

    def topics(self, names: Iterable[str]) -> dict[str, Found]:
        """Those of these topics that exist, with their settings."""
        described = self._described(names)
        resources = {name: ConfigResource(ResourceType.TOPIC, self._settings.topic(name)) for name in described}
        if not resources:
            return {}
        with translated("cannot read the settings of topics"):
            futures = self._client.describe_configs(list(resources.values()), request_timeout=self._timeout_s)
        found = {}
        for name, resource in resources.items():
            entries = result(f"cannot read the settings of topic {name}", futures[resource], self._timeout_s)
            configs = {key: str(entry.value) for key, entry in entries.items()}
            it = described[name]
            found[name] = Found(it.topic_id, it.partitions, it.replicas, configs)
        return found

    def _described(self, names: Iterable[str]) -> dict[str, Found]:
        by_full_name = {self._settings.topic(name): name for name in names}
        if not by_full_name:
            return {}
        with translated("cannot describe topics"):
            futures = self._client.describe_topics(TopicCollection(list(by_full_name)), request_timeout=self._timeout_s)
        found = {}
        for full_name, future in futures.items():
            try:
                it = future.result(self._timeout_s)
            except KafkaException as error:
                it = None
                if (inner := error_of(error)) is None or inner.code() not in NO_TOPIC:
                    raise LogUnavailable(f"cannot describe topic {by_full_name[full_name]}: {error}") from error
            except TimeoutError as error:
                raise LogUnavailable("the brokers do not answer") from error
            if it is not None:
                replicas = min(len(partition.replicas) for partition in it.partitions)
                found[by_full_name[full_name]] = Found(str(it.topic_id), len(it.partitions), replicas, {})
        return found

    def create(self, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Partitions and settings by name. One that somebody else made meanwhile is left as it is."""
        replicas = self._settings.replication_factor
        wanted = [
            NewTopic(self._settings.topic(name), partitions, replicas, config=dict(configs))
            for name, (partitions, configs) in topics.items()
        ]
        if not wanted:
            return
        with translated("cannot make topics"):
            for future in self._client.create_topics(wanted, operation_timeout=self._timeout_s).values():
                try:
                    future.result(2 * self._timeout_s)
                except KafkaException as error:
                    inner = error_of(error)
                    if inner is None or inner.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise

    def alter(self, name: str, configs: Mapping[str, str]) -> None:
        """Sets these of a topic's settings."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in configs.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, self._settings.topic(name), incremental_configs=entries)
        with translated(f"cannot change the settings of topic {name}"):
            futures = self._client.incremental_alter_configs([resource], request_timeout=self._timeout_s)
            futures[resource].result(self._timeout_s)

    def ends(self, which: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset to be written; what is below it is acknowledged."""
        return self._offsets(which, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def starts(self, which: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that is still kept."""
        return self._offsets(which, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def _offsets(self, which: Iterable[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        places = {(topic, number): Place(self._settings.topic(topic), number) for topic, number in which}
        if not places:
            return {}
        deadline, tries = time.monotonic() + self._timeout_s, 0
        with translated("cannot read where the log ends"):
            while True:
                client, tries = self._client, tries + 1
                futures = client.list_offsets(dict.fromkeys(places.values(), spec), request_timeout=self._timeout_s)
                try:
                    found = {key: int(futures[place].result(self._timeout_s).offset) for key, place in places.items()}
                except KafkaException as error:
                    inner = error_of(error)
                    if inner is None or inner.code() not in LEADER_MOVED or time.monotonic() > deadline:
                        raise
                else:
                    # A broker that has just come back may answer that it does not know (-1001), and no error: whoever
                    # took that for an end would believe that the log is gone.
                    unknown = [key for key, offset in found.items() if offset < 0]
                    if not unknown:
                        return found
                    if time.monotonic() > deadline:
                        raise LogUnavailable(f"the broker does not say where these end: {unknown}")
                if tries % 3 == 0 and self._client is client:
                    # It keeps to the latest leader that it knows of, for ever on a broker that was restored from an
                    # older state.
                    self._former, self._client = client, self._make()
                time.sleep(0.05)

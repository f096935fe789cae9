"""Where the brokers are, and what each kind of client is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from annals.eventlog.api import MAX_RECORD_BYTES
from annals.eventlog.kafka.client_log import DEBUG

# Kafka's limit is one of record batches, not of records: room for some of the largest.
BATCH_BYTES = 8 * MAX_RECORD_BYTES
_PRODUCED_BATCH_BYTES = BATCH_BYTES - 64 * 1024

Config = dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """How to reach one log on a Kafka cluster.

    `bootstrap`: host:port of some brokers, with commas. `namespace`: in front of each topic's and group's name.
    `replication_factor` -1: the broker's default. `properties`: by librdkafka's names (TLS, SASL), for every client.
    `append_timeout_ms`: how long a record may wait for the brokers before it fails; `request_timeout_ms`: how long
    any other call may take; `member_timeout_ms`: how long a member of a group may be silent before it is missed.
    """

    bootstrap: str
    namespace: str = "annals"
    replication_factor: int = -1
    min_insync_replicas: int = 1
    properties: Mapping[str, str] = field(default_factory=dict)
    append_timeout_ms: int = 10_000
    request_timeout_ms: int = 10_000
    member_timeout_ms: int = 6_000

    def topic(self, name: str) -> str:
        """A topic's name on the broker."""
        return f"{self.namespace}.{name}"

    @property
    def request_timeout_s(self) -> float:
        return self.request_timeout_ms / 1000


def common(settings: KafkaSettings) -> Config:
    """What every client is told."""
    return {
        "socket.nagle.disable": True,
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        **settings.properties,
        "bootstrap.servers": settings.bootstrap,
    }


def producer(settings: KafkaSettings) -> Config:
    """Nothing lingers, nothing is doubled or left out. Our own queue has the bounds and the time limit: librdkafka's
    time limit would let a record fail and a later one of its partition pass."""
    return {
        "allow.auto.create.topics": False,
        **common(settings),
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "acks": "all",
        "linger.ms": 0,
        "message.timeout.ms": 0,
        "queue.buffering.max.messages": 0,
        "queue.buffering.max.kbytes": 2_097_151,
        "message.max.bytes": _PRODUCED_BATCH_BYTES,
        "batch.size": _PRODUCED_BATCH_BYTES,
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 500,
    }


def writer_of_firsts(settings: KafkaSettings) -> Config:
    """A producer of a few records where the first of each key counts: one that comes twice does no harm.

    So it asks for no number of its own, for which the library waits half a second (its first try comes before it is
    connected).
    """
    return {
        **producer(settings),
        "enable.idempotence": False,
        "enable.gapless.guarantee": False,
        "max.in.flight": 1,  # a record that is sent again passes none
        "message.timeout.ms": settings.append_timeout_ms,
    }


def consumer(settings: KafkaSettings, wait_max_ms: int, queued_kbytes: int) -> Config:
    """A reader of partitions that it is told, from offsets that it is told: no group, no commits, no resets.

    Its logger must be a `ClientLog`: that hears which topic it reads.

    `wait_max_ms`: how long the broker holds a fetch that finds nothing (a record ends it at once).
    """
    return {
        "allow.auto.create.topics": False,
        **common(settings),
        "debug": DEBUG,
        # Required by the library; nothing joins it.
        "group.id": f"{settings.namespace}.readers",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_uncommitted",
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": wait_max_ms,
        "fetch.error.backoff.ms": 50,
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": queued_kbytes,
    }


def member(settings: KafkaSettings, group: str) -> Config:
    """A member of a group that shares partitions and reads none of them."""
    return {
        "allow.auto.create.topics": False,
        **common(settings),
        "group.id": settings.topic(group),
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": settings.member_timeout_ms,
        "heartbeat.interval.ms": settings.member_timeout_ms // 3,
        "max.poll.interval.ms": 5 * settings.member_timeout_ms,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "latest",
    }

"""Opening the log: its topics, and for whom it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from annals.eventlog.api import Append, Log, Record
from annals.eventlog.embedded import open_embedded
from annals.eventlog.errors import LogNotInitialised, TopicsDiffer
from annals.schemas.codec import decode, encode, schema_file
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.operations import GenerationCreated, Genesis, PartitionCount
from annals.schemas.topics import TOPICS, TopicSpec, decisions_topic
from annals.server.clock import now_ms
from annals.server.config import Config, ConfigError, kafka_settings
from annals.server.version import VERSION

if TYPE_CHECKING:
    from annals.eventlog.kafka import KafkaSettings

OPERATIONS, SCHEMAS = "operations", "schemas"
FIRST_GENERATION = "g1"
_HINT = "the topics are not as they must be: `annals log init` makes what is missing, and says what differs"


def log_topics() -> list[TopicSpec]:
    """The topics that every log has."""
    return [*TOPICS.values(), decisions_topic(FIRST_GENERATION)]


def open_log(config: Config) -> Log:
    """The log that the configuration names, with the topics that every log has.

    The embedded log makes itself. On Kafka `annals log init` makes the topics and nothing else does: ConfigError where
    they are missing, or not as they must be.
    """
    if config.log_backend == "kafka":
        return _open_kafka(config)
    log = open_embedded(config.log_dir, clock_ms=now_ms)
    log.ensure_topics(log_topics())
    return log


@dataclass(frozen=True, slots=True)
class MadeLog:
    """What `init_log` did: the open log, where it is (for people), and the topics that were not as they are now."""

    log: Log
    where: str
    mended: frozenset[str]


def init_log(config: Config) -> MadeLog:
    """Make the log, or what of it is missing. Raises TopicsDiffer, ConfigError or LogError."""
    if config.log_backend == "embedded":
        new = not config.log_dir.is_dir()
        log, where = open_log(config), str(config.log_dir.absolute())
        return MadeLog(log, where, frozenset(spec.name for spec in log_topics() if new))
    from annals.eventlog.kafka import initialise, open_kafka
    from annals.server.kafka_reach import reach

    settings = kafka_settings(config)
    reach(settings)
    mended = _unfit(settings)
    initialise(settings, log_topics())
    log = open_kafka(settings, clock_ms=now_ms)
    return MadeLog(log, f"{settings.bootstrap}, namespace {settings.namespace}", mended)


def _unfit(settings: KafkaSettings) -> frozenset[str]:
    """The topics that are missing or differ."""
    from annals.eventlog.kafka import open_kafka

    try:
        log = open_kafka(settings, clock_ms=now_ms)
    except LogNotInitialised:
        return frozenset(spec.name for spec in log_topics())
    found = set()
    with closing(log):
        for spec in log_topics():
            try:
                log.check_topics([spec])
            except TopicsDiffer:
                found.add(spec.name)
    return frozenset(found)


def _open_kafka(config: Config) -> Log:
    from annals.eventlog.kafka import open_kafka
    from annals.server.kafka_reach import reach

    settings = kafka_settings(config)
    reach(settings)
    try:
        log = open_kafka(settings, clock_ms=now_ms)
    except LogNotInitialised as error:
        raise ConfigError(str(error)) from error
    try:
        log.check_topics(log_topics())
    except TopicsDiffer as error:
        log.close()
        raise ConfigError("\n".join([*error.differences, _HINT])) from error
    except BaseException:
        log.close()
        raise
    return log


def begin_log(log: Log, server_name: str) -> None:
    """Write the log's first facts, or check that it is this server's. ConfigError where it is another one's.

    One namespace and one database serve one server name; the first Genesis wins.
    """
    genesis = first_genesis(log)
    if genesis is None:
        _append(log, _facts(log, server_name))
        genesis = first_genesis(log)
    if genesis is None or genesis.server_name != server_name:
        owner = genesis.server_name if genesis else "nobody"
        raise ConfigError(f"server_name: the log in use is that of {owner}, not of {server_name}")


def first_genesis(log: Log) -> Genesis | None:
    """The fact that says for whom the log is."""
    for record in _records(log, OPERATIONS):
        fact = decode(record.value) if record.value is not None else None
        if isinstance(fact, Genesis):
            return fact
    return None


def _facts(log: Log, server_name: str) -> list[Genesis | GenerationCreated]:
    envelope = Envelope(now_ms(), "server", VERSION, None, "genesis")
    counts = tuple(PartitionCount(name, spec.partitions) for name, spec in sorted(TOPICS.items()))
    return [
        Genesis(envelope, server_name, log.log_id, counts),
        GenerationCreated(Envelope(now_ms(), "server", VERSION, "genesis"), FIRST_GENERATION, "serve"),
    ]


def _append(log: Log, facts: list[Genesis | GenerationCreated]) -> None:
    values = [encode(fact) for fact in facts]
    schemas = [
        Append(SCHEMAS, 0, schema_file(type(fact)).fingerprint, schema_file(type(fact)).text.encode()) for fact in facts
    ]
    log.append(schemas).result()
    log.append([Append(OPERATIONS, 0, b"server", value) for value in values]).result()


def _records(log: Log, topic: str) -> Iterator[Record]:
    offset, end = 0, log.end(topic, 0)
    while offset < end:
        records = log.read(topic, 0, offset)
        if not records:
            return
        yield from records
        offset = records[-1].offset + 1

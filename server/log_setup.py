"""Opening the log: its topics, and for whom it is."""

from __future__ import annotations

from collections.abc import Iterator

from annals.eventlog.api import Append, Log, Record
from annals.eventlog.embedded import open_embedded
from annals.schemas.codec import decode, encode, schema_file
from annals.schemas.facts.envelope import Envelope
from annals.schemas.facts.operations import GenerationCreated, Genesis, PartitionCount
from annals.schemas.topics import TOPICS, decisions_topic
from annals.server.clock import now_ms
from annals.server.config import Config, ConfigError
from annals.server.version import VERSION

OPERATIONS, SCHEMAS = "operations", "schemas"
FIRST_GENERATION = "g1"


def open_log(config: Config) -> Log:
    """The log that the configuration names, with the topics that every log has."""
    log = open_embedded(config.log_dir, clock_ms=now_ms)
    log.ensure_topics([*TOPICS.values(), decisions_topic(FIRST_GENERATION)])
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

"""Who a log is: its id and the ids of its topics, on a topic of its own. Whoever wrote first has named it.

A topic that somebody deletes and makes anew has another id. So that this shows however long nobody of us ran, the log
remembers the id that each topic had when it was made. Logs of before that did not: theirs are written down when
`initialise` comes by.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as Place

from annals.eventlog.errors import LogNotInitialised, LogUnavailable, TopicsDiffer
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka import topics as wanted
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.client_log import ClientLog
from annals.eventlog.kafka.failures import as_log_error, passes, translated
from annals.eventlog.kafka.settings import KafkaSettings
from annals.schemas.topics import TopicSpec

_TOPIC = TopicSpec("log", 1)
_LOG_ID = b"log_id"
_TOPIC_ID = b"topic_id:"  # and the topic's name


@dataclass(frozen=True, slots=True)
class Identity:
    """`topic_ids`: by topic, as far as they were written down."""

    log_id: str
    topic_ids: Mapping[str, str]


def initialise(settings: KafkaSettings, topics: Sequence[TopicSpec], log_id: str | None = None) -> str:
    """Makes the topics and the log's id, as far as they are missing; gives the id.

    `log_id`: the id it shall have, where it is a copy (None: a new one). Raises TopicsDiffer where something exists
    but differs: then nothing was made; LogUnavailable.
    """
    administration = Administration(settings)
    has = _read(settings, administration)
    if has is not None and log_id not in (None, has.log_id):
        raise TopicsDiffer([f"the log has the id {has.log_id}, should be {log_id}"])
    wanted.ensure(administration, settings, [*topics, _TOPIC], has.topic_ids if has is not None else {})
    remember(settings, administration, administration.ids(spec.name for spec in topics))
    if has is None:
        # Last: a log with an id is whole.
        _write(settings, {_LOG_ID: log_id or uuid.uuid4().hex})
        has = _read(settings, administration)
    if has is None or log_id not in (None, has.log_id):
        raise TopicsDiffer([f"the log has the id {has and has.log_id}, should be {log_id}"])
    return has.log_id


def read_identity(settings: KafkaSettings, administration: Administration) -> Identity:
    """Raises LogNotInitialised, LogUnavailable."""
    found = _read(settings, administration)
    if found is None:
        raise LogNotInitialised(f"there is no log in namespace {settings.namespace!r}: run `annals log init`")
    return found


def remember(settings: KafkaSettings, administration: Administration, ids: Mapping[str, str]) -> None:
    """Writes down the ids of these topics, where none was: the first one that was written counts."""
    known = _firsts(settings) if administration.ids([_TOPIC.name]) else {}
    missing = {_TOPIC_ID + name.encode(): topic_id for name, topic_id in ids.items()}
    if news := {key: topic_id for key, topic_id in missing.items() if key not in known}:
        _write(settings, news)


def _read(settings: KafkaSettings, administration: Administration) -> Identity | None:
    """None where the log has no id yet."""
    found = _firsts(settings) if administration.ids([_TOPIC.name]) else {}
    if _LOG_ID not in found:
        return None
    ids = {key.removeprefix(_TOPIC_ID).decode(): value for key, value in found.items() if key.startswith(_TOPIC_ID)}
    return Identity(found[_LOG_ID], ids)


def _firsts(settings: KafkaSettings) -> dict[bytes, str]:
    """The first value of each key on the log's own topic."""
    found: dict[bytes, str] = {}
    with translated("cannot read the log's id"):
        consumer = Consumer(configs.consumer(settings, wait_max_ms=10, queued_kbytes=64), logger=ClientLog())
        try:
            consumer.assign([Place(settings.topic(_TOPIC.name), 0, 0)])
            deadline = time.monotonic() + settings.request_timeout_s
            while time.monotonic() < deadline:
                message = consumer.poll(0.5)
                error = None if message is None else message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return found
                if error is not None and not passes(error):
                    raise as_log_error("cannot read the log's id", error)
                if message is not None and error is None:
                    found.setdefault(message.key() or b"", (message.value() or b"").decode())
        finally:
            consumer.close()
    raise LogUnavailable("cannot read the log's id: the brokers do not answer")


def _write(settings: KafkaSettings, values: Mapping[bytes, str]) -> None:
    failed: list[KafkaError] = []
    with translated("cannot write the log's id"):
        producer = Producer(configs.writer_of_firsts(settings), logger=ClientLog())
        for key, value in values.items():
            producer.produce(
                settings.topic(_TOPIC.name),
                value.encode(),
                key,
                partition=0,
                on_delivery=lambda error, _: failed.append(error) if error is not None else None,
            )
        if producer.flush(settings.append_timeout_ms / 1000 + 5):
            raise LogUnavailable("cannot write the log's id: the brokers do not answer")
    if failed:
        raise as_log_error("cannot write the log's id", failed[0])

"""The id of a log: the first record of a topic of its own. Whoever wrote first has named it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as Place

from annals.eventlog.errors import LogNotInitialised, LogUnavailable, TopicsDiffer
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka import topics as wanted
from annals.eventlog.kafka.administration import Administration
from annals.eventlog.kafka.failures import as_log_error, logger, passes, translated
from annals.eventlog.kafka.settings import KafkaSettings
from annals.schemas.topics import TopicSpec

_TOPIC = TopicSpec("log", 1)
_KEY = b"log_id"


def initialise(settings: KafkaSettings, topics: Sequence[TopicSpec], log_id: str | None = None) -> str:
    """Makes the topics and the log's id, as far as they are missing; gives the id.

    `log_id`: the id it shall have, where it is a copy (None: a new one). Raises TopicsDiffer where something exists
    but differs: then nothing was made; LogUnavailable.
    """
    administration = Administration(settings)
    has = None
    if administration.ids([_TOPIC.name]):
        has = _first(settings)
    if None not in (has, log_id) and has != log_id:
        raise TopicsDiffer([f"the log has the id {has}, should be {log_id}"])
    wanted.ensure(administration, settings, [*topics, _TOPIC])
    if has is None:
        # Last: a log with an id is whole.
        _write(settings, log_id or uuid.uuid4().hex)
        has = _first(settings)
    if has is None or log_id not in (None, has):
        raise TopicsDiffer([f"the log has the id {has}, should be {log_id}"])
    return has


def read_id(settings: KafkaSettings, administration: Administration) -> str:
    """Raises LogNotInitialised, LogUnavailable."""
    found = _first(settings) if administration.ids([_TOPIC.name]) else None
    if found is None:
        raise LogNotInitialised(f"there is no log in namespace {settings.namespace!r}: run `annals log init`")
    return found


def _first(settings: KafkaSettings) -> str | None:
    """The value of the topic's first record; None where it has none."""
    with translated("cannot read the log's id"):
        consumer = Consumer(configs.consumer(settings, wait_max_ms=10, queued_kbytes=64), logger=logger)
        try:
            consumer.assign([Place(settings.topic(_TOPIC.name), 0, 0)])
            deadline = time.monotonic() + settings.request_timeout_s
            while time.monotonic() < deadline:
                message = consumer.poll(0.5)
                error = None if message is None else message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return None
                if error is not None and not passes(error):
                    raise as_log_error("cannot read the log's id", error)
                if message is not None and error is None and message.key() == _KEY:
                    return (message.value() or b"").decode()
        finally:
            consumer.close()
    raise LogUnavailable("cannot read the log's id: the brokers do not answer")


def _write(settings: KafkaSettings, log_id: str) -> None:
    failed: list[KafkaError] = []
    with translated("cannot write the log's id"):
        producer = Producer(
            {**configs.producer(settings), "message.timeout.ms": settings.append_timeout_ms}, logger=logger
        )
        producer.produce(
            settings.topic(_TOPIC.name),
            log_id.encode(),
            _KEY,
            partition=0,
            on_delivery=lambda error, _: failed.append(error) if error is not None else None,
        )
        if producer.flush(settings.append_timeout_ms / 1000 + 5):
            raise LogUnavailable("cannot write the log's id: the brokers do not answer")
    if failed:
        raise as_log_error("cannot write the log's id", failed[0])

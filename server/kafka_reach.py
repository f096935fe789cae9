"""Can the brokers be reached as the configuration says? Asked first: librdkafka tries for ever and says little."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from annals.eventlog.errors import LogUnavailable
from annals.server.config import ConfigError

if TYPE_CHECKING:
    from annals.eventlog.kafka import KafkaSettings

# That all brokers are down follows from the others, which say why.
_FOLLOWS = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT})
# These do not pass by themselves.
_REFUSALS = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
_LOOK_S = 1.0


def check_properties(settings: KafkaSettings) -> None:
    """Does the library take these properties? ConfigError where it does not. Waits for nobody."""
    _client(settings, [])


def reach(settings: KafkaSettings) -> None:
    """Ask the brokers who they are. ConfigError on wrong properties; LogUnavailable, with the reason, when in
    `settings.request_timeout_ms` none has answered, or one has refused us."""
    failures: list[KafkaError] = []
    client = _client(settings, failures)
    deadline_s = time.monotonic() + settings.request_timeout_s
    while True:
        try:
            client.list_topics(timeout=_LOOK_S)
            return
        except KafkaException as error:
            client.poll(0)  # has the library tell what went wrong
            refused = any(failure.code() in _REFUSALS for failure in failures)
            if refused or time.monotonic() > deadline_s:
                reasons = [failure.str() for failure in failures if failure.code() not in _FOLLOWS]
                said = "; ".join(dict.fromkeys(reasons)) or error.args[0].str()
                raise LogUnavailable(f"Kafka at {settings.bootstrap} cannot be used: {said}") from None


def _client(settings: KafkaSettings, failures: list[KafkaError]) -> AdminClient:
    properties: dict[str, Any] = {
        **settings.properties,
        "bootstrap.servers": settings.bootstrap,
        "error_cb": failures.append,
        "log_level": 0,
    }
    try:
        return AdminClient(properties)
    except KafkaException as error:
        raise ConfigError(f"kafka: {error.args[0].str()}") from None

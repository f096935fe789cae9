"""What librdkafka says, in the words of `errors.py`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from annals.eventlog.errors import LogError, LogUnavailable, UnknownTopic

T = TypeVar("T")

OUT_OF_RANGE = frozenset((KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION))
LEADER_MOVED = frozenset(
    (
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        # "No leaders found": the library's own word, of what it knows, after brokers that did not answer.
        KafkaError._NOENT,
    )
)
NO_TOPIC = frozenset(
    (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_ID,
    )
)
_REFUSED = frozenset(
    (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    )
)


def error_of(error: KafkaException) -> KafkaError | None:
    """The library's error inside its exception."""
    found = error.args[0] if error.args else None
    return found if isinstance(found, KafkaError) else None


def passes(error: KafkaError) -> bool:
    """Whether a reader may wait for it to pass: librdkafka goes on by itself."""
    return not error.fatal() and error.code() not in _REFUSED | NO_TOPIC | OUT_OF_RANGE


def as_log_error(what: str, error: KafkaError | None, cause: BaseException | None = None) -> LogError:
    """`what`: what failed, for people."""
    said = str(error.str()) if error is not None else str(cause)
    failure: LogError
    if error is not None and error.code() in NO_TOPIC:
        failure = UnknownTopic(f"{what}: {said}")
    else:
        failure = LogUnavailable(f"{what}: {said}")
    failure.__cause__ = cause
    return failure


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raises LogUnavailable or UnknownTopic in place of the library's exceptions."""
    try:
        yield
    except KafkaException as error:
        raise as_log_error(what, error_of(error), error) from error
    except FutureTimeoutError as error:
        raise LogUnavailable(f"{what}: the brokers do not answer") from error


def result(what: str, future: Future[T], timeout_s: float) -> T:
    """What an administrative call gave."""
    with translated(what):
        return future.result(timeout_s)

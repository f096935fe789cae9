"""Where the log ends, by brokers that do not know it for a moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TopicPartition as Place

from annals.eventlog.errors import LogUnavailable
from annals.eventlog.kafka import KafkaSettings
from annals.eventlog.kafka.administration import Administration


class Brokers:
    """Answers each question for offsets with the next of these, the last one for ever."""

    def __init__(self, *offsets: int) -> None:
        self._offsets: Iterator[int] = iter((*offsets[:-1], *[offsets[-1]] * 1000))
        self.asked = 0

    def list_offsets(self, places: Mapping[Place, Any], request_timeout: float) -> dict[Place, Future[Any]]:
        self.asked += 1
        offset, answers = next(self._offsets), {}
        for place in places:
            answers[place] = Future[Any]()
            answers[place].set_result(SimpleNamespace(offset=offset))
        return answers


def _asking(brokers: Brokers) -> Administration:
    made = Administration(KafkaSettings("127.0.0.1:1", "x", request_timeout_ms=300))
    made._make = lambda: brokers  # type: ignore[method-assign, assignment, return-value]
    made._client = brokers  # type: ignore[assignment]
    return made


def test_an_end_that_the_broker_does_not_know_yet_is_no_end() -> None:
    brokers = Brokers(-1001, -1001, 7)
    assert _asking(brokers).ends([("rooms", 0)]) == {("rooms", 0): 7}
    assert brokers.asked == 3


def test_a_broker_that_never_knows_is_as_good_as_away() -> None:
    with pytest.raises(LogUnavailable, match="does not say where these end"):
        _asking(Brokers(-1001)).ends([("rooms", 0)])

"""A place in a consumer group. Nothing is read by it: the group only says whose turn a partition is."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaException
from confluent_kafka import TopicPartition as Place

from annals.eventlog.api import TopicPartition
from annals.eventlog.errors import LogClosed
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka.client_log import ClientLog
from annals.eventlog.kafka.failures import as_log_error, error_of, translated
from annals.eventlog.kafka.settings import KafkaSettings

_LOOK_S = 0.05  # the library does not return when an assignment changes
_ALONE_S, _ALONE_S_MAX = 12.0, 300.0
"""Who has had no turn for so long joins anew; the second time after twice as long, and so on."""

_logger = structlog.get_logger(__name__)


class KafkaMembership:
    """See `api.Membership`."""

    shared = True

    def __init__(self, settings: KafkaSettings, group: str, topics: Sequence[str]) -> None:
        self._names = {settings.topic(topic): topic for topic in topics}
        self._ours: frozenset[TopicPartition] = frozenset()
        self._closed = False
        self._settings, self._group = settings, group
        self._had_turn_s, self._patience_s = time.monotonic(), _ALONE_S
        self._join()

    def _join(self) -> None:
        with translated(f"cannot join group {self._group}"):
            self._consumer = Consumer(configs.member(self._settings, self._group), logger=ClientLog())
            self._consumer.subscribe(
                list(self._names), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )

    def _join_anew(self) -> None:
        """The library may be stuck (seen: a client that was made while the broker hung never came into the group, and
        said nothing). It may as well be that all turns are others', who are not disturbed."""
        _logger.info("group_joined_anew", group=self._group, without_turn_s=round(self._patience_s))
        # What is stuck may not come to an end either.
        threading.Thread(target=self._consumer.close, name="leaving a group", daemon=True).start()
        self._join()
        self._had_turn_s, self._patience_s = time.monotonic(), min(_ALONE_S_MAX, self._patience_s * 2)

    def poll(self, timeout_s: float = 0.0) -> frozenset[TopicPartition]:
        if self._closed:
            raise LogClosed("this membership has ended")
        before, deadline = self._ours, time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            self._serve(max(0.0, min(_LOOK_S, left_s)))
            if self._ours:
                self._had_turn_s, self._patience_s = time.monotonic(), _ALONE_S
            elif time.monotonic() - self._had_turn_s > self._patience_s:
                self._join_anew()
            if self._ours != before or left_s <= 0:
                return self._ours

    def _serve(self, timeout_s: float) -> None:
        """Lets the library call us back; its poll is our sign of life."""
        try:
            message = self._consumer.poll(timeout_s)
        except KafkaException as error:
            raise as_log_error("our place in the group is lost", error_of(error), error) from error
        failure = None if message is None else message.error()
        if failure is not None and failure.fatal():
            self._ours = frozenset()
            raise as_log_error("our place in the group is lost", failure)

    def close(self) -> None:
        if not self._closed:
            self._closed, self._ours = True, frozenset()
            with suppress(RuntimeError):  # it left when we could not join anew
                self._consumer.close()

    def _which(self, places: Sequence[Place]) -> frozenset[TopicPartition]:
        return frozenset((self._names[place.topic], place.partition) for place in places)

    def _assigned(self, consumer: Consumer, places: list[Place]) -> None:
        # An offset of its own: nobody commits any, and none is read.
        consumer.incremental_assign([Place(place.topic, place.partition, OFFSET_END) for place in places])
        consumer.pause(places)
        if consumer is self._consumer:
            self._ours |= self._which(places)

    def _revoked(self, consumer: Consumer, places: list[Place]) -> None:
        consumer.incremental_unassign(places)
        if consumer is self._consumer:
            self._ours -= self._which(places)

    def _lost(self, consumer: Consumer, places: list[Place]) -> None:
        # Others may hold them already. The library joins anew by itself.
        self._revoked(consumer, places)

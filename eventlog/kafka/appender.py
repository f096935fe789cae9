"""What is on its way to the brokers: a queue with bounds and a time limit, and the thread that resolves futures.

Order. librdkafka keeps the order of a partition while it retries. Once a record has failed for good, none that was
queued behind it may pass: so the first failure, or the first record whose time is up, ends this producer with all that
it still holds, and the next append makes another one. Sequence numbers keep the brokers from taking a later batch of
the old producer without the earlier one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from annals.eventlog.api import Append, TopicPartition
from annals.eventlog.errors import AppendFailed, BackPressure, LogClosed
from annals.eventlog.kafka import settings as configs
from annals.eventlog.kafka.client_log import ClientLog, logger
from annals.eventlog.kafka.settings import KafkaSettings
from annals.eventlog.limits import Limits

_POLL_S = 0.2  # for time limits and the end; a delivery ends the poll at once
_PURGE_S = 5.0


class _Request:
    """One call of `append`."""

    __slots__ = ("deadline", "error", "future", "left", "offsets", "producer", "records", "size_bytes")

    def __init__(self, records: Sequence[Append], size_bytes: int, deadline: float, producer: Producer) -> None:
        self.records, self.size_bytes, self.deadline, self.producer = records, size_bytes, deadline, producer
        self.future: Future[list[int]] = Future()
        self.future.set_running_or_notify_cancel()  # nobody can cancel what may be on its way to the disk
        self.offsets = [-1] * len(records)
        self.left = len(records)
        self.error: str | None = None


class Appender:
    """Queue and thread. `written` is told of each record that is on the log: its partition and offset."""

    def __init__(
        self,
        settings: KafkaSettings,
        clock_ms: Callable[[], int],
        limits: Limits,
        written: Callable[[TopicPartition, int], None],
    ) -> None:
        self._settings, self._clock_ms, self._limits, self._written = settings, clock_ms, limits, written
        self._changed = threading.Condition()
        self._producer: Producer | None = None
        self._broken: Producer | None = None  # failed a record: to be ended
        self._open: dict[int, _Request] = {}  # by number of the call: the oldest first
        self._calls = 0
        self._reached: dict[TopicPartition, int] = {}  # next offsets after what was acknowledged
        self._waiting_records = self._waiting_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="log-appender", daemon=True)
        self._thread.start()

    def submit(self, records: Sequence[Append], size_bytes: int) -> Future[list[int]]:
        """Queues, or raises BackPressure. One call above the limits is taken when nothing else waits."""
        with self._changed:
            if self._closed:
                raise LogClosed("the log is closed")
            waiting, waiting_bytes = self._waiting_records + len(records), self._waiting_bytes + size_bytes
            limits = self._limits
            if self._waiting_records and (waiting > limits.records or waiting_bytes > limits.size_bytes):
                raise BackPressure(f"{self._waiting_records} records, {self._waiting_bytes} bytes wait for the brokers")
            if self._producer is None:
                self._producer = self._make()
                self._changed.notify_all()
            deadline = time.monotonic() + self._settings.append_timeout_ms / 1000
            request = _Request(records, size_bytes, deadline, self._producer)
            if not records:
                request.future.set_result([])
                return request.future
            self._waiting_records, self._waiting_bytes = waiting, waiting_bytes
            self._calls += 1
            self._open[self._calls] = request
            self._produce(self._producer, self._calls, request)
        return request.future

    def _make(self) -> Producer:
        try:
            return Producer(configs.producer(self._settings), logger=ClientLog())
        except KafkaException as error:
            raise AppendFailed(f"cannot use these settings for Kafka: {error}") from error

    def _produce(self, producer: Producer, number: int, request: _Request) -> None:
        timestamp_ms = self._clock_ms()
        try:
            for index, record in enumerate(request.records):
                producer.produce(
                    self._settings.topic(record.topic),
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=self._delivery(number, request, index),
                    timestamp=timestamp_ms,
                )
        except (KafkaException, BufferError) as error:
            # A fatal error that the thread has not yet been told of. It ends this request with the producer.
            request.error = str(error)
            self._broken = producer

    def _delivery(self, number: int, request: _Request, index: int) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            if error is not None:
                self._broken = request.producer
                request.error = request.error or error.str()
            elif offset is None or offset < 0:
                request.error = request.error or "written, but nobody says where"
            else:
                record = request.records[index]
                which = (record.topic, record.partition)
                if offset < self._reached.get(which, 0):
                    # It stands on a log that lacks what this one has acknowledged.
                    request.error = request.error or f"{which[0]}[{which[1]}] went back to offset {offset}"
                else:
                    request.offsets[index] = offset
                    self._reached[which] = offset + 1
                    self._written(which, offset)
            request.left -= 1
            if not request.left:
                self._finish(number, request)

        return delivered

    def _finish(self, number: int, request: _Request) -> None:
        with self._changed:
            if self._open.pop(number, None) is None:
                return
            self._waiting_records -= len(request.records)
            self._waiting_bytes -= request.size_bytes
        if request.error is None:
            request.future.set_result(request.offsets)
        else:
            request.future.set_exception(AppendFailed(f"not known to be on disk: {request.error}"))

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._producer is None and not self._closed:
                    self._changed.wait()
                producer = self._producer
                if self._closed and (producer is None or not self._open):
                    return
            if producer is None:
                continue
            self._poll(producer, _POLL_S if not self._closed else 0.01)
            if self._broken is producer or self._late():
                self._retire(producer)

    def _poll(self, producer: Producer, timeout_s: float) -> None:
        """Lets the library tell what was delivered. It raises a fatal error here, before it tells whom it struck."""
        try:
            producer.poll(timeout_s)
        except Exception as error:  # whatever it is, callers wait for an answer and the thread goes on
            logger.warning("a producer has failed: %s", error)
            self._broken = producer
            time.sleep(0.01)

    def _late(self) -> bool:
        with self._changed:
            oldest = next(iter(self._open.values()), None)
            if oldest is None or oldest.deadline > time.monotonic():
                return False
            oldest.error = "the brokers did not acknowledge it in time"
            return True

    def _retire(self, producer: Producer) -> None:
        """Ends the producer and all that it still holds. What is appended meanwhile goes to the next one."""
        with self._changed:
            self._producer = None
        producer.purge(in_queue=True, in_flight=True, blocking=False)
        deadline = time.monotonic() + _PURGE_S
        while len(producer) and time.monotonic() < deadline:
            self._poll(producer, 0.05)
        with self._changed:
            left = [(number, request) for number, request in self._open.items() if request.producer is producer]
        for number, request in left:
            request.error = request.error or "the connection to the brokers was given up"
            self._finish(number, request)

    def close(self) -> None:
        """Waits for what is queued, as long as it may take, then ends the thread."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._producer = None

    def abandon(self) -> None:
        """In a forked child, where the thread does not exist and its locks may be held for ever."""
        self._changed = threading.Condition()
        self._closed = True

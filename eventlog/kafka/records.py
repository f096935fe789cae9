"""Messages of the library as records of ours."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, Message

from annals.eventlog.api import Record, TopicPartition


class Batch:
    """What one look at a consumer gave. `records` by partition, in order; `ends`: where one was found to end for now;
    `errors`: by partition, or by None where they concern none."""

    __slots__ = ("ends", "errors", "records", "size_bytes")

    def __init__(self, messages: Iterable[Message], names: dict[str, str]) -> None:
        """`names`: the log's names of topics by the brokers'."""
        self.records: dict[TopicPartition, list[Record]] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.errors: list[tuple[TopicPartition | None, KafkaError]] = []
        self.size_bytes = 0
        make = Record._make
        topic, number, records = "", -1, list[Record]()
        for message in messages:
            if message.error() is not None:
                self._sort_in(message, names)
                continue
            full_name, partition = message.topic() or "", message.partition()
            if partition != number or names[full_name] != topic:
                topic, number = names[full_name], partition or 0
                records = self.records.setdefault((topic, number), [])
            key, value = message.key() or b"", message.value()
            self.size_bytes += len(key) + (0 if value is None else len(value))
            records.append(make((topic, number, message.offset(), key, value)))

    def _sort_in(self, message: Message, names: dict[str, str]) -> None:
        error, topic, number = message.error(), names.get(message.topic() or ""), message.partition()
        assert error is not None
        which = None if topic is None or number is None or number < 0 else (topic, number)
        if error.code() == KafkaError._PARTITION_EOF and which is not None:
            self.ends[which] = message.offset() or 0
        else:
            self.errors.append((which, error))

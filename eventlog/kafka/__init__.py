"""The log of many machines: Apache Kafka."""

from annals.eventlog.kafka.identity import initialise
from annals.eventlog.kafka.log import KafkaLog, open_kafka
from annals.eventlog.kafka.settings import KafkaSettings

__all__ = ["KafkaLog", "KafkaSettings", "initialise", "open_kafka"]

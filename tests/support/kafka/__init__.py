"""Apache Kafka for the tests: one broker a run, or one of a test's own.

    def test_x(kafka: KafkaAddress, kafka_namespace: str) -> None:
        kafka.bootstrap                     # the broker that all workers of this run share: never stop or fill it

    def test_y(own_kafka: KafkaBroker) -> None:
        own_kafka.kill()                    # SIGKILL; pause() and resume() are SIGSTOP and SIGCONT
        own_kafka.start()                   # the same data, the same ports

    with KafkaBroker(tmp_path, properties={"min.insync.replicas": "2"}) as broker: ...

What it runs lies in .cache/kafka; `make test` fetches it, and so does the first test that asks for a broker.
"""

from __future__ import annotations

from tests.support.kafka.broker import KafkaBroker, KafkaUnavailable
from tests.support.kafka.fixtures import kafka, kafka_namespace, own_kafka
from tests.support.kafka.shared import KafkaAddress

__all__ = ["KafkaAddress", "KafkaBroker", "KafkaUnavailable", "kafka", "kafka_namespace", "own_kafka"]

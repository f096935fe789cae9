"""`python -m tests.support.kafka.prepare`: what makes a broker start sooner, once `libs/` is there."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.kafka.broker import KafkaBroker
from tests.support.kafka.installation import CLASSES, FORMATTED, format_data
from tests.support.patience import PATIENCE_S

QUIET = {"log_level": 0}


def prepare() -> None:
    """Make `formatted/` and `classes.jsa`."""
    with tempfile.TemporaryDirectory(prefix="annals-kafka-") as folder:
        broker = KafkaBroker(Path(folder) / "broker")
        made, part = Path(folder) / "classes.jsa", FORMATTED.with_suffix(".part")
        format_data(broker.write_properties(), broker.data)
        for old in (FORMATTED, part):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(broker.data, part)
        part.rename(FORMATTED)
        broker.start(java_options=[f"-XX:ArchiveClassesAtExit={made}"])
        try:
            _exercise(broker.bootstrap)
        finally:
            broker.stop()
        if made.exists():
            shutil.move(made, CLASSES)


def _exercise(bootstrap: str) -> None:
    """Have the broker load the classes that clients make it need."""
    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    for future in admin.create_topics([NewTopic("exercise", 2, 1)]).values():
        future.result(PATIENCE_S)
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, **QUIET})
    producer.produce("exercise", b"value", b"key")
    producer.flush(PATIENCE_S)
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "exercise", "auto.offset.reset": "earliest", **QUIET}
    )
    consumer.subscribe(["exercise"])
    consumer.poll(PATIENCE_S)
    consumer.close()
    for future in admin.delete_topics(["exercise"]).values():
        future.result(PATIENCE_S)


if __name__ == "__main__":
    prepare()

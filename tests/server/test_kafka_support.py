"""The brokers that the other tests run on: they start, crash and stall as asked, and outlive no run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.kafka import KafkaAddress, KafkaBroker
from tests.support.kafka.installation import CHECKOUT
from tests.support.kafka.shared import join, leave
from tests.support.patience import PATIENCE_S
from tests.support.servers import alive
from tests.support.waiting import until


def topics(bootstrap: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=PATIENCE_S).topics)


def make(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(PATIENCE_S)


def test_one_broker_serves_the_run(kafka: KafkaAddress, kafka_namespace: str) -> None:
    make(kafka.bootstrap, f"{kafka_namespace}.x")
    # Made is not yet there: for a moment the broker shows no such topic.
    until(lambda: f"{kafka_namespace}.x" in topics(kafka.bootstrap), "the topic shows")


def test_a_broker_of_ones_own_stalls_and_crashes_as_asked(own_kafka: KafkaBroker) -> None:
    make(own_kafka.bootstrap, "kept")
    told: list[object] = []
    producer = Producer({"bootstrap.servers": own_kafka.bootstrap})
    own_kafka.pause()
    producer.produce("kept", b"value", on_delivery=lambda error, _: told.append(error))
    assert producer.flush(0.5) == 1
    own_kafka.resume()
    assert producer.flush(PATIENCE_S) == 0
    assert told == [None]
    before = own_kafka.bootstrap
    own_kafka.kill()
    assert not own_kafka.running
    own_kafka.start()
    assert own_kafka.bootstrap == before
    # What was acknowledged outlives it.
    assert "kept" in topics(before)


USER = """
import sys
from pathlib import Path
from tests.support.kafka.shared import join
print(join(Path(sys.argv[1])).bootstrap, flush=True)
sys.stdin.read()
"""


def user(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_shared_broker_ends_with_its_last_user(tmp_path: Path) -> None:
    first, second = user(tmp_path), user(tmp_path)
    try:
        assert first.stdout is not None
        assert second.stdout is not None
        bootstrap = first.stdout.readline().strip()
        assert second.stdout.readline().strip() == bootstrap
        broker = json.loads((tmp_path / "broker").read_text())["pid"]
        first.kill()
        first.wait()
        assert alive(broker)
        assert join(tmp_path).bootstrap == bootstrap  # the third user is this process
        second.kill()
        second.wait()
        assert alive(broker)
        assert topics(bootstrap) is not None
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    leave(tmp_path)
    until(lambda: not alive(broker), "the broker's end")
    until(lambda: not (tmp_path / "own" / "data").exists(), "the end of its data")

"""Settings of topics that a test changes behind the log's back."""

from __future__ import annotations

import time
from collections.abc import Mapping

from annals.eventlog.kafka import KafkaSettings
from annals.eventlog.kafka.administration import Administration
from tests.support.patience import PATIENCE_S


def alter(settings: KafkaSettings, topic: str, configs: Mapping[str, str]) -> None:
    """Sets these, and waits until the broker goes by them."""
    administration = Administration(settings)
    administration.alter(topic, configs)
    deadline = time.monotonic() + PATIENCE_S
    while not configs.items() <= administration.topics([topic])[topic].configs.items():
        assert time.monotonic() < deadline, "the broker does not take over a setting"
        time.sleep(0.02)
    # Its logs get to know it right after the table that it answers from.
    time.sleep(0.1)

"""The two logs that a server runs on; every suite that makes traffic runs on both.

@pytest.fixture(scope="module")
def server(log_backend: LogBackend, …):          # a fixture that asks for it runs its tests twice
    with Serve(folder, **log_backend.environment()) as serve: …
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.kafka import KafkaAddress
from tests.support.patience import PATIENT_KAFKA, PATIENT_KAFKA_SECTION

#: The run's broker serves many servers at once, and none of these tests is about a member that is late.
_MEMBER_WAIT_S = 30


@dataclass(frozen=True, slots=True)
class LogBackend:
    """One of them. `bootstrap`: the broker of this run, for Kafka."""

    name: str
    bootstrap: str | None = None

    def environment(self) -> dict[str, str]:
        """Variables for a server with a log of its own, that nobody has used."""
        if self.bootstrap is None:
            return {}
        return {
            "ANNALS_LOG": "kafka",
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "ANNALS_KAFKA__NAMESPACE": f"test{secrets.token_hex(6)}",
            "ANNALS_KAFKA__MEMBER_WAIT_S": str(_MEMBER_WAIT_S),
            **PATIENT_KAFKA,
        }

    def settings(self) -> dict[str, Any]:
        """The same as arguments of `Config`."""
        if self.bootstrap is None:
            return {}
        namespace = f"test{secrets.token_hex(6)}"
        kafka = {"namespace": namespace, "member_wait_s": _MEMBER_WAIT_S, **PATIENT_KAFKA_SECTION}
        return {"log_backend": "kafka", "kafka_bootstrap": self.bootstrap, "kafka": kafka}


@pytest.fixture(scope="session", params=["embedded", "kafka"])
def log_backend(request: pytest.FixtureRequest) -> LogBackend:
    """Both, one after the other."""
    return backend_named(request, request.param)


def backend_named(request: pytest.FixtureRequest, name: str) -> LogBackend:
    """One of them, for fixtures that choose."""
    if name == "embedded":
        return LogBackend("embedded")
    kafka: KafkaAddress = request.getfixturevalue("kafka")
    return LogBackend("kafka", kafka.bootstrap)

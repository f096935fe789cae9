"""tests/support/homeserver-up keeps its contract: one program, told by its environment, with TLS for other servers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.kafka import KafkaAddress
from tests.support.kafka.fixtures import delete_topics
from tests.support.servers import free_port, until

START_S = 200  # a busy machine; the contract's own limit is held by who deploys it
PROGRAM = Path(__file__).parents[1] / "support" / "homeserver-up"


def authority(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "ca.crt", folder / "ca.key"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=test"]
    subprocess.run(["openssl", "req", *options, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def status_of(connection: http.client.HTTPConnection, path: str) -> int:
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


class Up:
    """One homeserver-up, with what the contract gives it."""

    def __init__(self, folder: Path, ca_cert: Path, ca_key: Path, extra: Mapping[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self.client_port, self.federation_port = free_port(), free_port()
        self.log = folder / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANNALS_")},
            "SERVER_NAME": f"localhost:{self.federation_port}",
            "BIND_ADDRESS": "127.0.0.1",
            "CLIENT_PORT": str(self.client_port),
            "FEDERATION_PORT": str(self.federation_port),
            "CA_CERT": str(ca_cert),
            "CA_KEY": str(ca_key),
            "DATA_DIR": str(folder / "data"),
            "APPSERVICE_DIR": str(folder),
            "REGISTRATION_SHARED_SECRET": "complement",
            "DEFAULT_ROOM_VERSION": "11",
            **extra,
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """From its first answer on; at the end SIGTERM, which it must heed in time."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [PROGRAM],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            until(lambda: self._answers(process), START_S, f"an answer; see {self.log}")
            yield
            process.terminate()
            assert process.wait(60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.log.read_text()
        try:
            return self.get("/_matrix/client/versions")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def verify_keys(self) -> object:
        return json.loads(self.get("/_matrix/key/v2/server")[1])["verify_keys"]


def test_contract(tmp_path: Path) -> None:
    ca_cert, ca_key = authority(tmp_path)
    up = Up(tmp_path / "up", ca_cert, ca_key, {})
    with up.running():
        # The certificate names the server, and our authority signed it.
        trusting = ssl.create_default_context(cafile=str(ca_cert))
        tls = http.client.HTTPSConnection("localhost", up.federation_port, timeout=60, context=trusting)
        assert status_of(tls, "/health") == 200


@pytest.mark.timeout(900)
def test_two_share_a_broker(tmp_path: Path, kafka: KafkaAddress, database_url: str) -> None:
    """On Kafka: topics of its own for each, kept with its data; PostgreSQL of its own where none is named."""
    ca_cert, ca_key = authority(tmp_path)
    on_kafka = {"ANNALS_LOG": "kafka", "KAFKA_BOOTSTRAP": kafka.bootstrap}
    one = Up(tmp_path / "one", ca_cert, ca_key, on_kafka)
    two = Up(tmp_path / "two", ca_cert, ca_key, {**on_kafka, "DATABASE_URL": database_url})
    folders = [Path(up.environment["DATA_DIR"]) for up in (one, two)]
    try:
        with one.running(), two.running():
            keys = one.verify_keys()
            assert keys != two.verify_keys()
            assert until(lambda: one.get("/ready")[0] == 200)
        assert [(folder / "annals" / "postgres").exists() for folder in folders] == [True, False]
        assert not (folders[0] / "annals" / "log").exists()
        with one.running():
            assert one.verify_keys() == keys
        assert "found  rooms" in one.log.read_text()
    finally:
        for folder in folders:
            if (named := folder / "kafka-namespace").exists():
                delete_topics(kafka.bootstrap, named.read_text().strip())

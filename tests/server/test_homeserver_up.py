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

from tests.support import nursery
from tests.support.kafka import KafkaAddress
from tests.support.kafka.fixtures import delete_topics
from tests.support.patience import PATIENCE_S, PATIENT, PATIENT_KAFKA
from tests.support.ports import free_port
from tests.support.waiting import until

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
        """From its first answer on; at the end SIGTERM, which it must heed."""
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [PROGRAM],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        yield from self._until_its_end(process)

    @contextmanager
    def forked(self, made: Mapping[str, str]) -> Iterator[None]:
        """The server that the program would become, with the environment that it has made, sooner."""
        with self.log.open("ab") as output:
            process = nursery.begin("serve", environment=made, output=output, new_session=True)
        yield from self._until_its_end(process)

    def made(self) -> dict[str, str]:
        """What the program makes before it becomes the server, and the environment that it gives it."""
        shown = {**self.environment, "SHOW_ENVIRONMENT": "yes"}
        with self.log.open("ab") as output:
            told = subprocess.run(
                [PROGRAM], env=shown, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output, check=True
            )
        return dict(line.split("=", 1) for line in os.fsdecode(told.stdout).split("\0") if line)

    def _until_its_end(self, process: subprocess.Popen[bytes] | nursery.Command) -> Iterator[None]:
        try:
            until(lambda: self._answers(process), f"an answer; see {self.log}")
            yield
            process.terminate()
            assert process.wait(PATIENCE_S) == 0
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _answers(self, process: subprocess.Popen[bytes] | nursery.Command) -> bool:
        assert process.poll() is None, self.log.read_text()
        try:
            return self.get("/_matrix/client/versions")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=PATIENCE_S)
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
        tls = http.client.HTTPSConnection("localhost", up.federation_port, timeout=PATIENCE_S, context=trusting)
        assert status_of(tls, "/health") == 200


def test_two_share_a_broker(tmp_path: Path, kafka: KafkaAddress, database_url: str) -> None:
    """On Kafka: topics of its own for each, kept with its data; PostgreSQL of its own where none is named."""
    ca_cert, ca_key = authority(tmp_path)
    on_kafka = {"ANNALS_LOG": "kafka", "KAFKA_BOOTSTRAP": kafka.bootstrap, **PATIENT, **PATIENT_KAFKA}
    one = Up(tmp_path / "one", ca_cert, ca_key, on_kafka)
    two = Up(tmp_path / "two", ca_cert, ca_key, {**on_kafka, "DATABASE_URL": database_url})
    folders = [Path(up.environment["DATA_DIR"]) for up in (one, two)]
    try:
        made = one.made()
        assert "made   rooms" in one.log.read_text()
        with one.forked(made), two.forked(two.made()):
            keys = one.verify_keys()
            assert keys != two.verify_keys()
            assert until(lambda: one.get("/ready")[0] == 200)
        assert [(folder / "annals" / "postgres").exists() for folder in folders] == [True, False]
        assert not (folders[0] / "annals" / "log").exists()
        # The next start has the topics of the first one.
        assert one.made() == made
        assert "found  rooms" in one.log.read_text()
    finally:
        for folder in folders:
            if (named := folder / "kafka-namespace").exists():
                delete_topics(kafka.bootstrap, named.read_text().strip())

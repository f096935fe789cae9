"""The servers that are measured: how each is started, and where its process trees begin."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.synapse import DefaultPostgres, write_configuration
from tests.support.ports import free_port

CHECKOUT = Path(__file__).resolve().parent.parent
PEER_PYTHON = CHECKOUT / ".cache" / "peer-venv" / "bin" / "python"
START_TIMEOUT_S, STOP_TIMEOUT_S = 120.0, 30.0


class DidNotStart(Exception):
    """A server ended, or did not answer in time; the message names its log."""


class Peer(ABC):
    """One fresh server on loopback, with its data in `folder` (which is made anew)."""

    name: str

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def roots(self) -> tuple[int, ...]:
        """The processes that all others of this server descend from."""
        assert self.process is not None
        return (self.process.pid,)

    @abstractmethod
    def start(self) -> None:
        """Start it; returns when it answers."""

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None

    def __enter__(self) -> Peer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        log = self.folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(f"{self.url}/_matrix/client/versions"):
            if self.process.poll() is not None:
                raise DidNotStart(f"{self.name} ended with {self.process.returncode}: see {log}")
            if time.monotonic() > deadline:
                raise DidNotStart(f"{self.name} does not answer: see {log}")
            time.sleep(0.05)


class Annals(Peer):
    """This checkout, with its embedded log and its embedded PostgreSQL."""

    name = "Annals"

    def start(self) -> None:
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-subj", "/CN=annals.localhost", "-days", "30", "-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        self.serve("annals.localhost", free_port(), {"TLS_CERT": str(certificate), "TLS_KEY": str(key)})

    def serve(self, server_name: str, federation_port: int, certificates: Mapping[str, str]) -> None:
        """Start it under a name; returns when its tables have all of the log."""
        told = {
            "SERVER_NAME": server_name,
            "BIND_ADDRESS": "127.0.0.1",
            "CLIENT_PORT": str(self.port),
            "FEDERATION_PORT": str(federation_port),
            "DATA_DIR": str(self.folder / "data"),
            "REGISTRATION_SHARED_SECRET": "only here",
            "LOG_LEVEL": "WARNING",
            # Of a work tree too, which shares its environment with another one.
            "PYTHONPATH": str(CHECKOUT / "src"),
            **certificates,
        }
        self._launch([CHECKOUT / "tests" / "support" / "homeserver-up"], {**environment(), **told})
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(f"{self.url}/ready"):
            if time.monotonic() > deadline:
                raise DidNotStart(f"Annals does not become ready: see {self.folder / 'log'}")
            time.sleep(0.05)


class Synapse(Peer):
    """Synapse from PyPI, one process, on a PostgreSQL with default settings."""

    name = "Synapse"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.postgres = DefaultPostgres(folder / "postgres")

    @property
    def roots(self) -> tuple[int, ...]:
        assert self.postgres.process is not None
        return (*super().roots, self.postgres.process.pid)

    def start(self) -> None:
        url = self.postgres.start()
        config = write_configuration(self.folder, "synapse.localhost", self.port, url)
        program: list[str | Path] = [PEER_PYTHON, "-m", "synapse.app.homeserver", "-c", config]
        subprocess.run([*program, "--generate-keys"], check=True, cwd=self.folder, capture_output=True)
        self._launch(program, environment())

    def stop(self) -> None:
        super().stop()
        self.postgres.stop()


PEERS: dict[str, type[Peer]] = {"annals": Annals, "synapse": Synapse}


def environment() -> dict[str, str]:
    """Ours, without what would set up Annals otherwise."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ANNALS_") and name not in ("DATABASE_URL", "KAFKA_BOOTSTRAP", "PYTHONPATH")
    }


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # URLError and HTTPError among them
        return False

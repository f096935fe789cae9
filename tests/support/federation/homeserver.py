"""A homeserver as a process, with a name that carries its federation port; its people are ordinary clients."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from tests.support import nursery
from tests.support.federation.link import Link
from tests.support.matrix_client import Client, register
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port
from tests.support.scripted_peer import Authority

_numbers = itertools.count(1)


class Homeserver(ABC):
    """One server on loopback. `with` it; `name` is its server name, `port` that of its client API."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder, self.authority = folder, authority
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.federation_port = free_port(), free_port()
        self.link = Link(self.federation_port)
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | nursery.Command | None = None

    @property
    def name(self) -> str:
        """The server name: host and port of the wire."""
        return f"{self.host}:{self.link.port}"

    @abstractmethod
    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """What to run, and in which environment."""

    def begin(self, log: IO[bytes]) -> subprocess.Popen[bytes] | nursery.Command:
        """Run it, in a process group of its own."""
        words, environment = self.command()
        return subprocess.Popen(
            list(words),
            env=dict(environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def start(self) -> None:
        """Start it, or start it again on the same data; returns when it answers clients."""
        with self.log.open("ab") as log:
            self.process = self.begin(log)
        deadline_s = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.tail()}"
            assert time.monotonic() < deadline_s, f"does not answer:\n{self.tail()}"
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/_matrix/client/versions")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def group(self) -> int:
        """Its process group."""
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        """SIGTERM, and wait."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def person(self, name: str = "user") -> Client:
        """Somebody new, logged in."""
        return register(self.port, f"{name}{next(_numbers)}")

    def __enter__(self) -> Homeserver:
        self.link.__enter__()
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill()
        self.link.__exit__(kind, error, trace)


def inherited() -> dict[str, str]:
    """Our environment without what would tell a server of ours something, or have Python compile with each start."""
    ours = ("ANNALS_", "KAFKA_", "DATABASE_URL", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}

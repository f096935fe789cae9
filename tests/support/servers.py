"""A whole `annals serve` as a process of its own, for tests that kill parts of it.

with Serve(tmp_path) as server:
    server.start()                      # waits for /health
    server.get("/ready")                # (status, body)
    server.children()                   # {"api": pid, "projectors": pid, "remote": pid, "postgres": pid}
    server.kill_all()                   # SIGKILL to the whole process group, PostgreSQL included
    server.start()                      # the same data again

It is forked, with all imported already (tests.support.nursery); a ServeAlone starts as an operator starts it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO
from unittest import mock

from annals.server.config import Config, load
from tests.support import nursery
from tests.support.patience import PATIENCE_S, PATIENT
from tests.support.ports import free_port
from tests.support.waiting import until

_CLI = (sys.executable, "-m", "annals.server.cli")
_ABOUT_DATA = (
    *("ANNALS_DATA_DIR", "ANNALS_LOG", "DATABASE_URL"),
    *("KAFKA_BOOTSTRAP", "ANNALS_KAFKA__NAMESPACE", "ANNALS_KAFKA__REQUEST_WAIT_S", "ANNALS_KAFKA__APPEND_WAIT_S"),
)


def about_data(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment says where log and tables are: a command with these variables works on the same."""
    return {name: value for name, value in environment.items() if name in _ABOUT_DATA}


def config_of(environment: Mapping[str, str]) -> Config:
    """The settings of a process with this environment, as far as they say where log and tables are."""
    with mock.patch.dict(os.environ, about_data(environment)):
        return load()


class Serve:
    """One `annals serve` on loopback, with its data below `directory`. `alone`: its next start is no fork."""

    alone = False

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.log = directory / "serve.log"
        self.process: subprocess.Popen[bytes] | nursery.Command | None = None
        self.environment: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANNALS_")},
            "ANNALS_DATA_DIR": str(directory / "data"),
            "ANNALS_CLIENT_LISTENERS": f'[{{"port": {self.port}}}]',
            "ANNALS_REGISTRATION__ENABLED": "true",
            "ANNALS_RATE_LIMITS__ENABLED": "false",
            **PATIENT,
            **environment,
        }

    @property
    def config(self) -> Config:
        """Its settings, for a look at log and tables from the test."""
        return config_of(self.environment)

    def start(self) -> float:
        """Start it and wait for /health; the seconds that took."""
        began_s = time.monotonic()
        if self.environment.get("ANNALS_LOG") == "kafka" and self.process is None:
            nursery.run("log", "init", environment=self.environment).check_returncode()
        with self.log.open("ab") as log:
            self.process = self._begin(log)
        until(self._healthy_or_ended, f"/health; see {self.log}")
        return time.monotonic() - began_s

    def _begin(self, log: IO[bytes]) -> subprocess.Popen[bytes] | nursery.Command:
        if not self.alone:
            return nursery.begin("serve", environment=self.environment, output=log, new_session=True)
        return subprocess.Popen(
            [*_CLI, "serve"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    def _healthy_or_ended(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        return self.healthy()

    def healthy(self) -> bool:
        """Does /health answer 200?"""
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
        """Status and body of a GET of the client listener. Raises OSError when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def children(self) -> dict[str, int]:
        """The pid of each child that runs now, by its role (`postgres` among them)."""
        found = {}
        for pid in _children_of(self.pid):
            words = _command_line(pid)
            if words and Path(words[0]).name == "postgres":
                found["postgres"] = pid
            elif "run" in words:
                found[words[words.index("run") + 1]] = pid
        return found

    def kill_all(self) -> None:
        """SIGKILL to the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._wait()

    def stop(self) -> float:
        """SIGTERM; the seconds until it had ended."""
        began_s = time.monotonic()
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"outlived SIGTERM by {PATIENCE_S:g} s; see {self.log}") from None
        finally:
            self.kill_all()
        return time.monotonic() - began_s

    def _wait(self) -> None:
        assert self.process is not None
        self.process.wait()

    def __enter__(self) -> Serve:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill_all()


class ServeAlone(Serve):
    """One that imports for itself, supervisor and each role."""

    alone = True


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Does the process run (a zombie does not)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

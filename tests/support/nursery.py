"""`annals` commands as processes of their own that need no second to import what they use.

    process = begin("serve", environment=environment, output=log)   # as subprocess.Popen: pid, poll(), wait(), kill()
    ended = run("generation", "drop", "g1", environment=environment)    # as subprocess.run, output captured

They are forked by a process that has imported everything (tests.support.nursery_process), one of each test worker, and
end with it. How a command starts by itself is seen where it is what a test is about (tests/server).

What waits for a limited time, and has no setting for that, waits longer where the environment says so
(tests.support.limits).
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.support.patience import PATIENCE_S

_PROGRAM, _CHECKOUT = "tests.support.nursery_process", Path(__file__).parents[2]
#: Room in its command line, where each of its children shows its own.
_ROOM_BYTES = 1024
_CLI = (sys.executable, "-m", "annals.server.cli")


class Command:
    """A command that runs, or has ended."""

    def __init__(self, words: tuple[str, ...], report: int) -> None:
        self.args = (sys.executable, *words)
        self._report = report
        self._said = b""
        self.returncode: int | None = None
        while b"\n" not in self._said:
            self._read(PATIENCE_S)
        pid, _, self._said = self._said.partition(b"\n")
        self.pid = int(pid)

    def _read(self, timeout_s: float | None) -> None:
        if select.select([self._report], [], [], timeout_s)[0]:
            piece = os.read(self._report, 64)
            if not piece:
                raise AssertionError(f"the nursery ended, and with it what it knew of {self.args}")
            self._said += piece

    def poll(self) -> int | None:
        """Its status, where it has ended: negative after a signal."""
        if self.returncode is None:
            self._read(0)
            if b"\n" in self._said:
                self.returncode = int(self._said)
                os.close(self._report)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; raises TimeoutExpired."""
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            select.select([self._report], [], [], left_s)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _nursery() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # It ends when we do: by the end of the socket. Commands have few arenas, as under a supervisor.
        subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, "-" * _ROOM_BYTES],
            stdin=theirs.fileno(),
            cwd=_CHECKOUT,
            env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        )
    return ours


def begin(
    *words: str,
    environment: Mapping[str, str],
    output: IO[Any],
    errors: IO[Any] | None = None,
    new_session: bool = False,
) -> Command:
    """Run a command; it runs when this returns. Without `errors` they go where the output goes.

    Words that begin with `-c` are for Python itself: a program, and its arguments.
    """
    if words[0] != "-c":
        words = (*_CLI[1:], *words)
    read, write = os.pipe()
    asked = json.dumps({"words": words, "environment": dict(environment), "new_session": new_session}).encode()
    with open(os.devnull, "rb") as nothing:
        fds = [nothing.fileno(), output.fileno(), (errors or output).fileno(), write]
        socket.send_fds(_nursery(), [asked], fds)
    os.close(write)
    return Command(words, read)


def run(*words: str, environment: Mapping[str, str], timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it wrote. Raises TimeoutExpired, after it was killed."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        command = begin(*words, environment=environment, output=output, errors=errors)
        try:
            command.wait(timeout_s)
        except BaseException:
            command.kill()
            raise
        output.seek(0)
        errors.seek(0)
        assert command.returncode is not None
        return subprocess.CompletedProcess(command.args, command.returncode, output.read(), errors.read())

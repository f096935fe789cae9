"""One broker for all workers of a test run, and for nobody longer.

Each process that uses it holds a shared lock on the file `users` until it ends, however it ends. A keeper, a process
of its own, starts the broker and waits for that lock to be its alone: then nobody is left, and it ends the broker. The
broker ends with the keeper.

    folder/users     the lock
    folder/start     held by the process that sees whether a keeper is needed
    folder/broker    where the broker listens, while it does
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.support.kafka.installation import CHECKOUT, KafkaUnavailable, ensure_installed

_held: dict[Path, TextIO] = {}
_keepers: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """The broker of this run. `bootstrap` is what clients take as bootstrap.servers."""

    bootstrap: str


def join(folder: Path) -> KafkaAddress:
    """Use the broker of `folder` until this process ends, or `leave`; started when nobody did. KafkaUnavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in _held:
        users = (folder / "users").open("a")
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while a keeper ends a broker that nobody used
        _held[folder] = users
    with _locked(folder / "start"):
        ensure_installed()
        found = folder / "broker"
        if not found.exists():
            _start_keeper(folder)
        return KafkaAddress(json.loads(found.read_text())["bootstrap"])


def leave(folder: Path) -> None:
    """This process needs the broker no more."""
    if held := _held.pop(folder, None):
        held.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start_keeper(folder: Path) -> None:
    with (folder / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.kafka.keeper", str(folder)],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    _keepers.append(keeper)
    assert keeper.stdout is not None
    # A line when the broker serves; the end of the pipe when it never will.
    if not keeper.stdout.readline():
        raise KafkaUnavailable((folder / "keeper.log").read_text()[-3000:])

"""Generations beside the one that serves: each that is followed has a projector process of its own.

The process `projectors` folds the generation that served when it started. Beside it, it keeps a child for each other
one that is followed or serves (`annals run projectors --generation g2`), so that these cost it no time, and so that a
switch changes nothing here: both go on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from annals.audit.following import followed
from annals.database.errors import DatabaseError
from annals.database.pool import Database
from annals.server.parent_death import PARENT_VARIABLE

_LOOK_S = 0.5
_STOP_S = 10.0
_AGAIN_S = 2.0
_ABOUT_METRICS = "PROMETHEUS_MULTIPROC_DIR"

log = structlog.get_logger(__name__)


class Followers:
    """Children for every wanted generation but `own`; `unwanted` is called when that itself is wanted no more."""

    def __init__(self, url: str, own: str, config_path: Path | None, unwanted: Callable[[], None]) -> None:
        self._url = url
        self._own = own
        self._unwanted = unwanted
        self._arguments = [] if config_path is None else ["--config", str(config_path)]
        # A child says nothing in the metrics: they are about what serves.
        self._environment = {name: value for name, value in os.environ.items() if name != _ABOUT_METRICS}
        self._environment |= {PARENT_VARIABLE: str(os.getpid()), "DATABASE_URL": url}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._not_before_s: dict[str, float] = {}
        self._stop = threading.Event()
        # Children end with the thread that began them.
        self._thread = threading.Thread(target=self._run, name="followers", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the children, and wait for them."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        database = Database(self._url, threads=1)
        try:
            while not self._stop.wait(_LOOK_S):
                try:
                    self._keep(followed(database))
                except DatabaseError as error:
                    log.warning("followed_unknown", error=repr(error))
        finally:
            database.close()
            for name in list(self._children):
                self._end(name)

    def _keep(self, wanted: frozenset[str]) -> None:
        if self._own not in wanted:
            self._unwanted()
        for name in self._children.keys() - wanted:
            self._end(name)
        for name in wanted - {self._own}:
            child = self._children.get(name)
            if child is not None and child.poll() is not None:
                log.warning("follower_ended", generation=name, status=child.returncode)
                self._not_before_s[name] = time.monotonic() + _AGAIN_S
                del self._children[name]
                child = None
            if child is None and time.monotonic() >= self._not_before_s.get(name, 0.0):
                command = [sys.executable, "-m", "annals.server.cli", "run", "projectors", "--generation", name]
                self._children[name] = subprocess.Popen([*command, *self._arguments], env=self._environment)
                log.info("follower_started", generation=name, pid=self._children[name].pid)

    def _end(self, name: str) -> None:
        child = self._children.pop(name)
        child.terminate()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        log.info("follower_stopped", generation=name)

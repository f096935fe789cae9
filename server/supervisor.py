"""`annals serve`: PostgreSQL, migrations, then one child for each role, restarted when it dies.

    supervisor ─┬─ config plan     validates, makes keys, says what to run; ends
                ├─ postgres        unless DATABASE_URL names another
                ├─ migrate         ends
                ├─ run projectors
                ├─ run remote
                └─ run api

This process stays small: the standard library only. Configuration is read by a child, which prints the plan.
All children stay in our process group, so that one signal to the group reaches all of them. When we are killed, the
kernel tells each child (parent_death.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from annals.server.embedded_postgres import EmbeddedPostgres
from annals.server.parent_death import PARENT_VARIABLE, before_exec
from annals.server.postgres_binaries import PostgresUnavailable

ROLES = ("projectors", "remote", "api")  # in the order of their start; stopped in the reverse order
EXIT_CONFIG = 78  # EX_CONFIG: restarting does not help
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.2, 10.0
HEALTHY_S = 30.0  # a child that lived this long begins again at the shortest backoff
STOP_ROLE_S, STOP_POSTGRES_S = 3.5, 3.0  # three roles and PostgreSQL: within 15 s


class Stop(Exception):
    """We are asked to end."""


class Child:
    """One role, and when to start it again."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.process: subprocess.Popen[bytes] | None = None
        self.failures = 0
        self.started_s = 0.0
        self.restart_s = 0.0

    def ended(self, now_s: float) -> float:
        """Note that it ended; returns the seconds to wait before the next start."""
        self.process = None
        if now_s - self.started_s >= HEALTHY_S:
            self.failures = 0
        self.failures += 1
        wait_s: float = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** (self.failures - 1)) * random.uniform(0.8, 1.0)
        self.restart_s = now_s + wait_s
        return wait_s


class Supervisor:
    def __init__(self, config: Path | None) -> None:
        self._arguments = [] if config is None else ["--config", str(config)]
        self._environment = dict(os.environ)
        self._environment[PARENT_VARIABLE] = str(os.getpid())
        # Few arenas: our processes have many threads that rarely allocate at once.
        self._environment.setdefault("MALLOC_ARENA_MAX", "2")
        self._json_lines = False
        self._children = [Child(role) for role in ROLES]
        self._postgres: EmbeddedPostgres | None = None
        self._postgres_restart = Child("postgres")
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT (exit status 0), or until nothing can be served (another status)."""
        signal.set_wakeup_fd(self._wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake us
        status = 0
        try:
            plan = self._plan()
            self._start_postgres(plan)
            self._run_to_end("migrate")
            self._watch()
        except Stop:
            self._say("stopping")
        except (PostgresUnavailable, subprocess.CalledProcessError, OSError) as error:
            self._say("failed", error=str(error))
            status = getattr(error, "returncode", 1) or 1
        finally:
            self._stop_all()
        return status

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _check_stop(self) -> None:
        if self._stopping:
            raise Stop

    # -- start

    def _plan(self) -> Mapping[str, Any]:
        plan: Mapping[str, Any] = json.loads(self._run_to_end("config", "plan"))
        self._json_lines = plan["log_format"] == "json"
        # The numbers of all processes are written here, and shown together at /metrics.
        metrics = Path(plan["data_dir"]) / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir()
        self._environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
        return plan

    def _start_postgres(self, plan: Mapping[str, Any]) -> None:
        if plan["database_url"] is not None:
            return
        self._postgres = EmbeddedPostgres(
            Path(plan["data_dir"]) / "postgres",
            settings=plan["postgres_settings"],
            before_exec=before_exec(signal.SIGINT),
            cancelled=lambda: self._stopping,
        )
        began_s = time.monotonic()
        try:
            url = self._postgres.start()
        except PostgresUnavailable:
            self._check_stop()
            raise
        self._environment["DATABASE_URL"] = url
        self._say("postgres started", seconds=round(time.monotonic() - began_s, 2))

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "annals.server.cli", *words, *self._arguments]

    def _run_to_end(self, *words: str) -> bytes:
        """Run a child that exits; its standard output. Raises CalledProcessError, or Stop when we are asked to end."""
        process = subprocess.Popen(self._command(*words), env=self._environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        output, output_fd = b"", process.stdout.fileno()
        while True:
            # The end of the child closes its pipe; a signal makes the pipe of wake-ups readable.
            ready, _, _ = select.select([output_fd, self._wake_read], [], [])
            self._drain_wake()
            if self._stopping:
                _end(process, STOP_ROLE_S)
                raise Stop
            if output_fd in ready:
                if not (piece := os.read(output_fd, 65536)):
                    break
                output += piece
        process.stdout.close()
        if process.wait() != 0:
            raise subprocess.CalledProcessError(process.returncode, " ".join(words))
        return output

    # -- serve

    def _watch(self) -> None:
        """Start what is due, sleep until a child ends or something is due, for ever."""
        while True:
            self._check_stop()
            now_s = time.monotonic()
            self._revive_postgres(now_s)
            for child in self._children:
                self._revive(child, now_s)
            due = [c.restart_s for c in (*self._children, self._postgres_restart) if c.restart_s > 0]
            timeout_s = max(0.0, min(due) - time.monotonic()) if due else None
            select.select([self._wake_read], [], [], timeout_s)
            self._drain_wake()

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _revive(self, child: Child, now_s: float) -> None:
        if child.process is not None and child.process.poll() is not None:
            status = child.process.returncode
            if status == EXIT_CONFIG:
                raise subprocess.CalledProcessError(status, f"run {child.role}")
            wait_s = child.ended(now_s)
            self._say("child ended", role=child.role, status=status, restart_in_seconds=round(wait_s, 2))
        if child.process is None and now_s >= child.restart_s:
            child.process = subprocess.Popen(self._command("run", child.role), env=self._environment)
            child.started_s, child.restart_s = now_s, 0.0
            self._say("child started", role=child.role, pid=child.process.pid)

    def _revive_postgres(self, now_s: float) -> None:
        postgres, child = self._postgres, self._postgres_restart
        if postgres is None:
            return
        if postgres.process is not None:
            if postgres.process.poll() is None:
                return
            status = postgres.process.returncode
            postgres.process = None
            wait_s = child.ended(now_s)
            self._say("postgres ended", status=status, restart_in_seconds=round(wait_s, 2))
        if now_s < child.restart_s:
            return
        try:
            postgres.start()
            child.started_s, child.restart_s = now_s, 0.0
            self._say("postgres started again")
        except PostgresUnavailable as error:
            self._check_stop()
            wait_s = child.ended(time.monotonic())
            self._say("postgres failed", error=str(error), restart_in_seconds=round(wait_s, 2))

    # -- stop

    def _stop_all(self) -> None:
        """Roles first, the one that takes requests before the ones that serve it; then PostgreSQL."""
        for child in reversed(self._children):
            if child.process is not None:
                _end(child.process, STOP_ROLE_S)
        if self._postgres is not None:
            self._postgres.stop(STOP_POSTGRES_S)
        self._say("stopped")

    def _say(self, event: str, **fields: object) -> None:
        if self._json_lines:
            line = json.dumps({"event": event, "role": "supervisor", **fields})
        else:
            line = " ".join(["supervisor:", event, *(f"{name}={value}" for name, value in fields.items())])
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - structlog is not for a process this small


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(config: Path | None) -> int:
    """The body of `annals serve`; returns its exit status."""
    return Supervisor(config).run()

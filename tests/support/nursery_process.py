"""The process that tests.support.nursery asks for commands: it has imported all of Annals once, and forks.

A forked command is a process as any other: its own session, environment, files and metrics, the handling of signals
that a new interpreter has, and its words in /proc/<pid>/cmdline; the sitecustomize.py of its PYTHONPATH is run. The
supervisor of a forked `serve` forks its roles. Hashes of passwords cost them next to nothing, and their PostgreSQL
begins with a copy of one that has the tables of a new server: initdb and migrations take two seconds of CPU each time.

Asked by messages on the socket that is standard input: JSON, and the files of the command's standard input, output and
errors and of a pipe, where its pid is written and, when it ends, its status. When the other end of the socket is
closed, however the process that asked has ended, all that it began is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from argon2 import PasswordHasher
from prometheus_client import values

MESSAGE_BYTES_MAX = 1 << 20
CLI = (sys.executable, "-m", "annals.server.cli")
#: What the commands import only when they run.
_LATE = (
    "alembic.command",
    "alembic.runtime.migration",
    "confluent_kafka.admin",
    "psycopg2.extras",
    "uvicorn",
    "uvloop",
)
_ARG_START, _ARG_END = 47, 48  # fields of /proc/self/stat


class LateValue:
    """A number of Prometheus that begins in the process that uses it: a forked one has its own, as others do."""

    _multiprocess = False
    _all: ClassVar[list[LateValue]] = []

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._how = arguments, more
        self._value: Any = values.MutexValue(*arguments, **more)  # type: ignore[no-untyped-call]
        self._all.append(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)

    @classmethod
    def begin(cls) -> None:
        """In a forked process, whose environment says where numbers are written."""
        kind = values.get_value_class()  # type: ignore[no-untyped-call]
        for value in cls._all:
            arguments, more = value._how
            value._value = kind(*arguments, **more)


class Forked(subprocess.Popen[bytes]):
    """`annals` WORDS in a fork of this process, which has one thread; else as subprocess.Popen."""

    def _execute_child(self, *arguments: Any) -> None:
        given = inspect.signature(subprocess.Popen._execute_child).bind(self, *arguments)  # type: ignore[attr-defined]
        ends = {1: given.arguments["c2pwrite"], 2: given.arguments["errwrite"], 0: given.arguments["p2cread"]}
        assert threading.active_count() == 1
        words = [*given.arguments["args"]]
        environment = given.arguments["env"]
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _live(words, environment, ends, given.arguments["start_new_session"])
        self._child_created = True
        # Ours were made for the child where they are the ends of a pipe.
        for made, kept in (("c2pwrite", "c2pread"), ("errwrite", "errread"), ("p2cread", "p2cwrite")):
            if given.arguments[made] != -1 and given.arguments[kept] != -1:
                os.close(given.arguments[made])


def _live(words: list[str], environment: dict[str, str] | None, ends: dict[int, int], new_session: bool) -> NoReturn:
    status = 1
    try:
        _become(words, environment, ends, new_session)
        status = _run(words)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        # As the end of an interpreter: threads that are waited for, then what was registered.
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


def _run(words: list[str]) -> int:
    importlib.import_module("tests.support.limits").take_on()
    # Where a test spoils what runs, it does so here.
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if (custom := Path(folder, "sitecustomize.py")).exists():
            runpy.run_path(str(custom))
            break
    if words[1] == "-c":
        sys.argv = words[1:2] + words[3:]
        exec(words[2], {"__name__": "__main__"})  # noqa: S102 - as an interpreter does
        return 0
    cli, supervisor = (importlib.import_module(f"annals.server.{name}") for name in ("cli", "supervisor"))
    if words[len(CLI)] == "serve":
        supervisor.__dict__["subprocess"] = _Subprocess()
    return int(cli.main(words[len(CLI) :]))


def _become(words: list[str], environment: dict[str, str] | None, ends: dict[int, int], new_session: bool) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if new_session:
        os.setsid()
    for end, fd in ends.items():
        if fd != -1:
            os.dup2(fd, end)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2:
            with contextlib.suppress(OSError):
                os.close(fd)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    sys.orig_argv = words
    _show(words)
    LateValue.begin()


def _show(words: Sequence[str]) -> None:
    """Make these the words of /proc/self/cmdline."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    # Counted from the field behind the name, which is the third.
    begin, end = (int(fields[field - 2]) for field in (_ARG_START, _ARG_END))
    text = b"\0".join(os.fsencode(word) for word in words)[: end - begin - 1]
    ctypes.memset(begin, 0, end - begin)
    ctypes.memmove(begin, text, len(text))


class _Subprocess:
    """The module `subprocess` of a supervisor whose roles are forked."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        ours = tuple(command[: len(CLI)]) == CLI
        return (Forked if ours else subprocess.Popen)(command, **more)


def _import_all() -> None:
    values.ValueClass = LateValue
    annals = importlib.import_module("annals")
    for module in pkgutil.walk_packages(annals.__path__, "annals."):
        if ".migrations." not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (*_LATE, "tests.support.limits"):
        importlib.import_module(name)
    # As cheap as it can be: people register by hundreds.
    cheap = functools.partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
    importlib.import_module("annals.commands.passwords").__dict__["PasswordHasher"] = cheap


def _copy_clusters(folder: Path) -> None:
    """Whoever makes a cluster takes a copy of the first one, which has the tables of a new server and does not run."""
    postgres = importlib.import_module("annals.server.embedded_postgres").EmbeddedPostgres
    make = postgres._initdb
    first = postgres(folder / "first", {"fsync": "off"})
    whole = folder / "whole"

    def copied(self: Any) -> None:
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                _in_a_fork(make_first)
        _copy(first.pgdata, self.pgdata)

    def make_first() -> None:
        postgres._initdb = make
        first._before_exec = importlib.import_module("annals.server.parent_death").before_exec(signal.SIGINT)
        url = first.start()
        importlib.import_module("annals.database.migrate").migrate(url)
        first.stop()
        whole.touch()

    postgres._initdb = copied


def _in_a_fork(work: Callable[[], None]) -> None:
    """So that nothing of it stays in this process. Raises AssertionError where it fails."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def _copy(source: Path, target: Path) -> None:
    """Owners and modes too. Under another name first: a copy that was killed half-way is none."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    subprocess.run(["cp", "-a", "-T", source, unfinished], check=True)
    unfinished.rename(target)


def _ended(reports: dict[int, tuple[Forked, int]]) -> None:
    for pid, (process, report) in list(reports.items()):
        if (status := process.poll()) is not None:
            del reports[pid]
            with contextlib.suppress(OSError):
                os.write(report, f"{status}\n".encode())
            os.close(report)


def _begin(message: bytes, fds: list[int], reports: dict[int, tuple[Forked, int]]) -> None:
    asked = json.loads(message)
    stdin, stdout, stderr, report = fds
    process = Forked(
        [sys.executable, *asked["words"]],
        env=asked["environment"],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=asked["new_session"],
    )
    reports[process.pid] = process, report
    os.write(report, f"{process.pid}\n".encode())
    for fd in (stdin, stdout, stderr):
        os.close(fd)


def _kill_all(processes: Iterable[Forked]) -> None:
    """Each with its process group, where it leads one: roles, and their PostgreSQL."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            leads = os.getpgid(process.pid) == process.pid
            (os.killpg if leads else os.kill)(process.pid, signal.SIGKILL)


def main() -> None:
    """Until the other end of the socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_all()
    # No TemporaryDirectory: the first forked process that ends would remove it.
    folder = Path(tempfile.mkdtemp(prefix="annals-nursery-"))
    try:
        _copy_clusters(folder)
        _serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve() -> None:
    gc.collect()
    gc.freeze()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    reports: dict[int, tuple[Forked, int]] = {}
    with socket.socket(fileno=os.dup(0)) as asking:
        while True:
            ready, _, _ = select.select([asking.fileno(), woken], [], [])
            if woken in ready:
                os.read(woken, 4096)
                _ended(reports)
            if asking.fileno() in ready:
                message, fds, _, _ = socket.recv_fds(asking, MESSAGE_BYTES_MAX, 4)
                if not message:
                    _kill_all(process for process, _ in reports.values())
                    return
                _begin(message, fds, reports)


if __name__ == "__main__":
    main()

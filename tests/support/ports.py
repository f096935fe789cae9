"""Ports of loopback for servers that are told where to listen.

A port that the kernel names, and that is given back before a server takes it, may meanwhile be the near end of any
connection. These are not among those that the kernel names, and no two processes that run tests hand out the same: each
takes blocks of them, which are its own until it ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator

# /proc/sys/net/ipv4/ip_local_port_range begins with 32768.
_FIRST, _LAST, _BLOCK = 12_000, 32_000, 50

_held: list[socket.socket] = []
_ports: dict[int, Iterator[int]] = {}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and nobody else is given while this process runs."""
    # A forked process holds the blocks of its parent too, but must not hand out the same.
    ports = _ports.setdefault(os.getpid(), _own_ports())
    return next(port for port in ports if _is_free(port))


def _own_ports() -> Iterator[int]:
    while True:
        yield from _own_block()


def _own_block() -> range:
    starts = list(range(_FIRST, _LAST, _BLOCK))
    random.SystemRandom().shuffle(starts)
    for start in starts:
        hold = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            # An abstract name: taken at once for all processes, given back by the kernel when the last holder ends.
            hold.bind(f"\0annals-tests-ports-{start}")
            _held.append(hold)
            return range(start, start + _BLOCK)
        hold.close()
    raise RuntimeError(f"no ports left between {_FIRST} and {_LAST}")


def _is_free(port: int) -> bool:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False

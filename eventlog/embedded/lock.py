"""One writer at a time, over all processes, without SQLite's busy handler: that one sleeps between tries."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriterLock:
    """An OS lock on a file of its own. It goes with the process that holds it, however that ends.

    One instance serves one thread: take another instance for another thread.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Blocks, in the kernel, until no other thread or process holds it."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Also right in a forked child: the parent's lock stays with the parent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

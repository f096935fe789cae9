"""A child that ends when its parent does, however the parent ends (Linux). Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PARENT_VARIABLE = "ANNALS_SUPERVISOR_PID"

_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send us `number` when `parent` ends; send it at once when it has ended already."""
    _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def before_exec(number: signal.Signals) -> Callable[[], None]:
    """The same for a program that is not ours: run between fork and exec (the setting outlives exec)."""
    parent = os.getpid()
    return lambda: end_with_parent(parent, number)

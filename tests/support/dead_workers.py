"""What a worker of xdist died of, where one is gone without a word: the run says no more than that it is.

A crash of the interpreter has its traceback on standard error. What leaves nothing there is a SIGKILL, of the kernel's
where memory is short, or an exit.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

_WAIT_S = 10.0


def oom_kills() -> int:
    """How many processes the kernel has killed since it started, for want of memory."""
    try:
        fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(fields.get("oom_kill", 0))


def obituary(node: Any, oom_kills_before: int) -> str:
    """How the worker's process ended, and what is known of the machine's memory."""
    process = getattr(getattr(node.gateway, "_io", None), "popen", None)
    status: object = "unknown"
    if process is not None:
        try:
            status = process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            status = "it still runs"
    memory = [line for line in _lines("/proc/meminfo") if line.startswith(("MemTotal", "MemAvailable"))]
    killed = oom_kills() - oom_kills_before
    return f"{node.gateway.id}: exit status {status}; killed for want of memory: {killed}; {', '.join(memory)}"


def _lines(path: str) -> list[str]:
    try:
        return [" ".join(line.split()) for line in Path(path).read_text().splitlines()]
    except OSError:
        return []

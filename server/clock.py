"""The only clock. What needs the time gets it as an argument, or is handed `now_ms` by the composition root."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000

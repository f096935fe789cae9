"""How much of what does not pass is kept, for each server: a flood of it must not fill the disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_MS = 3600 * 1000
INPUTS_MAX = 1_000
BYTES_MAX = 8 << 20
_SERVERS_MAX = 20_000


@dataclass(slots=True)
class _Taken:
    since_ms: int
    inputs: int = 0
    size_bytes: int = 0


class Quota:
    """Inputs and bytes that a server may have in quarantine by the hour, as far as this process has seen."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._taken: OrderedDict[str, _Taken] = OrderedDict()

    def take(self, origin: str, size_bytes: int) -> bool:
        """Whether one more input of this size may be kept; it counts if so."""
        now_ms, taken = self._now_ms(), self._taken.pop(origin, None)
        if taken is None or not 0 <= now_ms - taken.since_ms < WINDOW_MS:
            taken = _Taken(now_ms)
        self._taken[origin] = taken
        if len(self._taken) > _SERVERS_MAX:
            self._taken.popitem(last=False)
        if taken.inputs >= INPUTS_MAX or taken.size_bytes + size_bytes > BYTES_MAX:
            return False
        taken.inputs += 1
        taken.size_bytes += size_bytes
        return True

"""Python's own settings during a replay.

The search for garbage in cycles is made rare: what a batch holds it holds on purpose, and frees itself. (Measured: it
took a sixth of the time of a fold, as each batch has some hundred thousand objects.) And threads take turns quickly:
the one that writes asks for the next lines of a COPY, while the other computes.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATIONS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS = 100_000, 20, 50
_SWITCH_INTERVAL_S = 0.0005


@contextmanager
def set_for_replay() -> Iterator[None]:
    """Cycles are looked for every 100,000 allocations, and not among what is there already; turns are of 0.5 ms."""
    thresholds, interval_s = gc.get_threshold(), sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*thresholds)
        gc.unfreeze()

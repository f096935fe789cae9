"""Python's own settings during a replay, and in processes that work on many events at once.

The search for garbage in cycles is made rare: what a batch holds it holds on purpose, and frees itself. (Measured: it
took a sixth of the time of a fold, and then still a tenth of that of a recompute, as each batch has some hundred
thousand objects: 45 a PDU, of a state event three times as many.) And threads take turns quickly: the one that writes
asks for the next lines of a COPY, while the other computes.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# More than a batch of a replay holds (annals.projectors.rebuild), whatever its PDUs are.
_ALLOCATIONS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS = 1_000_000, 10, 10
# More than a batch of what comes in live holds, also when a large room is joined.
_ALLOCATIONS_PROJECTING, _YOUNG_ROUNDS_PROJECTING, _MIDDLE_ROUNDS_PROJECTING = 250_000, 4, 20
# Who serves for months must not wait as long for what errors leave behind.
_ALLOCATIONS_SERVING, _ROUNDS_SERVING = 50_000, 20
_SWITCH_INTERVAL_S = 0.0005


@contextmanager
def set_for_replay() -> Iterator[None]:
    """Cycles are looked for every million allocations, and not among what is there already; turns are of 0.5 ms."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        with _rare_searches(_ALLOCATIONS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS):
            yield
    finally:
        sys.setswitchinterval(interval_s)


@contextmanager
def set_for_projecting() -> Iterator[None]:
    """Cycles are looked for every 250,000 allocations, and not among what is there already."""
    with _rare_searches(_ALLOCATIONS_PROJECTING, _YOUNG_ROUNDS_PROJECTING, _MIDDLE_ROUNDS_PROJECTING):
        yield


@contextmanager
def set_for_serving() -> Iterator[None]:
    """Cycles are looked for every 50,000 allocations, and not among what is there already."""
    with _rare_searches(_ALLOCATIONS_SERVING, _ROUNDS_SERVING, _ROUNDS_SERVING):
        yield


@contextmanager
def _rare_searches(allocations: int, young_rounds: int, middle_rounds: int) -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(allocations, young_rounds, middle_rounds)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()

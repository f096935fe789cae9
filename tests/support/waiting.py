"""Waiting for what comes to pass in its own time.

    until(server.healthy, "it answers")                 # AssertionError where that does not come to pass
    pid = until(lambda: server.children().get("api"))   # the answer that was true
    await until_async(lambda: follower.asked)           # on an event loop; the probe may be a coroutine function

Looks come at longer and longer intervals: who is waited for has work to do.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from tests.support.patience import PATIENCE_S

T = TypeVar("T")
_FIRST_PAUSE_S, _LONGER, _LAST_PAUSE_S = 0.01, 1.1, 0.25


def until(probe: Callable[[], T], what: str = "") -> T:
    """The first true answer of `probe`."""
    pauses = _pauses(what or repr(probe))
    while not (got := probe()):
        time.sleep(next(pauses))
    return got


async def until_async(probe: Callable[[], object], what: str = "") -> None:
    """The same, of a function or a coroutine function."""
    pauses = _pauses(what or repr(probe))
    while True:
        got = probe()
        if await got if inspect.isawaitable(got) else got:
            return
        await asyncio.sleep(next(pauses))


def _pauses(what: str) -> Iterator[float]:
    """Seconds to sleep, while there is patience."""
    deadline_s, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
    while time.monotonic() < deadline_s:
        yield pause_s
        pause_s = min(_LONGER * pause_s, _LAST_PAUSE_S)
    raise AssertionError(f"not seen in {PATIENCE_S:g} s: {what}")

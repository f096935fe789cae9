"""A thread that waits for records and hands them to an event loop: for what lives in memory only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

import structlog

from annals.eventlog.api import Log, Record, TopicPartition
from annals.eventlog.errors import LogError

_logger = structlog.get_logger(__name__)

#: After an error of the log.
AGAIN_S = 1.0


class TailThread:
    """Follows `positions` until it is closed; `take` is called on `loop`."""

    def __init__(
        self,
        log: Log,
        positions: Mapping[TopicPartition, int],
        loop: asyncio.AbstractEventLoop,
        take: Callable[[list[Record]], None],
        name: str,
    ) -> None:
        self._tail, self._loop, self._take, self._name = log.tail(positions), loop, take, name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; waits for it."""
        self._stop.set()
        self._tail.wake()
        self._thread.join()
        self._tail.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                records = self._tail.poll(None)
            except LogError as error:
                _logger.warning("not_followed", what=self._name, error=str(error))
                self._stop.wait(AGAIN_S)
                continue
            if records and not self._stop.is_set():
                self._loop.call_soon_threadsafe(self._take, records)

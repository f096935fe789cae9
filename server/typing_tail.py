"""Who types, as this process hears it from the log, and when that is over."""

from __future__ import annotations

import asyncio

from annals.eventlog.api import Log, Record
from annals.eventlog.tail_thread import TailThread
from annals.queries.sync.notifier import Notifier
from annals.queries.sync.typing import Typing
from annals.schemas.codec import decode
from annals.schemas.facts.ephemeral import TypingSet

_EPHEMERAL = "ephemeral"
_STEP_S = 1.0


class TypingTail:
    """Follows topic `ephemeral` from its end. Make it on the event loop whose clients are to be told."""

    def __init__(self, log: Log, typing: Typing, notifier: Notifier) -> None:
        typing.offset = log.end(_EPHEMERAL, 0)
        self._typing, self._notifier = typing, notifier
        loop = asyncio.get_running_loop()
        self._thread = TailThread(log, {(_EPHEMERAL, 0): typing.offset}, loop, self._take, "typing")

    def close(self) -> None:
        """End the thread; waits for it."""
        self._thread.close()

    def _take(self, records: list[Record]) -> None:
        rooms = set()
        for record in records:
            fact = None if record.value is None else decode(record.value)
            if isinstance(fact, TypingSet):
                self._typing.apply(fact, record.offset)
                rooms.add(fact.room_id)
        self._notifier.moved(rooms, ())


async def expire_typing(typing: Typing, notifier: Notifier) -> None:
    """Tell when somebody types no more, until cancelled."""
    while True:
        await asyncio.sleep(_STEP_S)
        if changed := typing.expire():
            notifier.moved(changed, ())

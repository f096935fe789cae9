"""A /sync that waits, and what wakes it.

answer = woken(bob, since, lambda: alice.say(room_id, "ping"))
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from annals.api.client import sync
from tests.support.patience import PATIENCE_S
from tests.support.server import User

_PATIENCE_MS = int(PATIENCE_S * 1000)
#: Waits of a sync for tables that are behind its token are shorter.
_NEWS_S = 1.0


class _Waits:
    """How the waits of one user's polls begin and end. `ended`: whether something moved; else the time was up."""

    def __init__(self, user: User, patch: pytest.MonkeyPatch) -> None:
        self._user_id = user.id
        self.began, self.ended = threading.Event(), list[bool]()
        notifier = user.server.services.sync._notifier
        self._wait = notifier.wait
        patch.setattr(notifier, "wait", self._watched)

    async def _watched(self, user_id: str, rooms: frozenset[str], seen: int, timeout_s: float) -> bool:
        if user_id != self._user_id or timeout_s < _NEWS_S:
            return await self._wait(user_id, rooms, seen, timeout_s)
        self.began.set()
        self.ended.append(await self._wait(user_id, rooms, seen, timeout_s))
        return self.ended[-1]


def woken(user: User, since: str, news: Callable[[], object]) -> dict[str, Any]:
    """The answer of a poll that had nothing to say before `news`, and that they ended: not its own time limit."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as threads:
        patch.setattr(sync, "TIMEOUT_MS_MAX", _PATIENCE_MS)
        waits = _Waits(user, patch)
        poll = threads.submit(user.sync, since, timeout=_PATIENCE_MS)
        assert waits.began.wait(PATIENCE_S), "it never waited"
        assert not poll.done(), "it did not wait for the news"
        news()
        answer = poll.result()
    assert waits.ended[-1], "it waited until its time was up"
    return answer

"""Which servers are worth a question: who failed is left alone for a while, and none is asked much at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from annals.federation.backoff import Backoff, BackoffRule, after_failure
from annals.federation.errors import FederationError, Refused

#: An answer that is lacking keeps a room waiting, so a server is tried again sooner than with transactions.
QUESTIONS = BackoffRule(first_ms=5_000, factor=2, longest_ms=600_000)
AT_ONCE_PER_SERVER = 6
SERVERS_KEPT = 10_000


class ServersAsked:
    """How the servers that one process asks have fared. In memory: who starts anew asks anew."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        chance: Callable[[], float],
        rule: BackoffRule = QUESTIONS,
        at_once: int = AT_ONCE_PER_SERVER,
    ) -> None:
        self._now_ms, self._chance, self._rule, self._at_once = now_ms, chance, rule, at_once
        self._failing: OrderedDict[str, Backoff] = OrderedDict()
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._inside: dict[str, int] = {}

    def may_be_asked(self, server: str) -> bool:
        """Whether the server is not being left alone."""
        failing = self._failing.get(server)
        return failing is None or failing.is_over(self._now_ms())

    def willing(self, servers: Iterable[str], count: int) -> list[str]:
        """The first `count` of these that may be asked, each once."""
        return [server for server in dict.fromkeys(servers) if self.may_be_asked(server)][:count]

    def heard_from(self, server: str) -> None:
        """It spoke to us by itself: it lives."""
        self._failing.pop(server, None)

    @asynccontextmanager
    async def asking(self, server: str) -> AsyncIterator[None]:
        """Around one question to the server: waits for its turn, and takes note of how it went."""
        gate = self._gates.setdefault(server, asyncio.Semaphore(self._at_once))
        self._inside[server] = self._inside.get(server, 0) + 1
        try:
            async with gate:
                yield
            self._failing.pop(server, None)
        except FederationError as error:
            # Who refuses is there; only its being overloaded is a reason to wait.
            if isinstance(error, Refused) and error.is_final:
                self._failing.pop(server, None)
            else:
                self._failed(server)
            raise
        finally:
            self._inside[server] -= 1
            if not self._inside[server]:
                del self._inside[server], self._gates[server]

    def _failed(self, server: str) -> None:
        before = self._failing.pop(server, None)
        if before is not None and not before.is_over(self._now_ms()):
            # Several questions that failed together are one failure.
            self._failing[server] = before
            return
        self._failing[server] = after_failure(before, self._now_ms(), self._chance(), self._rule)
        while len(self._failing) > SERVERS_KEPT:
            self._failing.popitem(last=False)

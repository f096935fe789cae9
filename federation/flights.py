"""One piece of work a key at most: who asks for what is under way waits for it.

The work belongs to nobody who asks. It runs in a task of its own, in a context of its own: a waiter that is cancelled
takes nobody with it, and no line that the work logs bears the name of a request that happened to come first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """The work that is under way."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def under_way(self, key: K) -> bool:
        """Whether the work of this key is being done."""
        return key in self._tasks

    def begin(self, key: K, work: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        """The work for `key` that is under way, else `work`, started now. Wait for it by `asyncio.wait` or a shield."""
        task = self._tasks.get(key)
        if task is None or task.done():
            # An empty context, not a copy of the asker's: his request may be over long before the work is.
            task = asyncio.get_running_loop().create_task(_run(work), context=Context())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._over(key, done))
        return task

    async def join(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The result of the work for `key`: of the one under way, else of `work`, started now."""
        return await asyncio.shield(self.begin(key, work))

    async def close(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, key: K, task: asyncio.Task[V]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        # Where every waiter went away nobody takes the exception, which is no reason to complain.
        if not task.cancelled():
            task.exception()


async def _run(work: Callable[[], Awaitable[V]]) -> V:
    return await work()

"""A listener on an event loop of its own, for tests without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from anyio.from_thread import start_blocking_portal

from annals.database.listen import Listener

RECONNECTED = "(reconnected)"


@contextmanager
def hearing(url: str, channel: str) -> Iterator[SimpleQueue[str]]:
    """What is heard on a channel, in order; RECONNECTED where the connection was made anew."""
    heard: SimpleQueue[str] = SimpleQueue()
    with start_blocking_portal("asyncio") as portal:
        listener = Listener(url, [channel])
        portal.call(listener.start)
        portal.call(listener.subscribe, channel, heard.put, lambda: heard.put(RECONNECTED))
        try:
            yield heard
        finally:
            portal.call(listener.close)

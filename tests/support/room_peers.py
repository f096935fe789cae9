"""Scripted servers with rooms for tests that have no event loop: each lives in a thread.

with room_peer(authority, folder) as peer:
    room = peer.make_room("10")
    person.ok("POST", f"/join/{quote(room.room_id)}", {}, {"via": peer.name})
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import Authority, reference_key
from tests.support.scripted_room import RoomPeer

#: Of all of them: a port comes to another one some time, and its name with it, and a server knows the key of a name.
_SEED = b"\5" * 32


class ThreadedRoomPeer(RoomPeer):
    """What tests outside of its thread may do."""

    loop: asyncio.AbstractEventLoop

    def open_gate(self) -> None:
        """Let answers go that wait."""
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(PATIENCE_S)

    async def _open(self) -> None:
        self.gate.set()


@contextmanager
def room_peer(authority: Authority, folder: Path) -> Iterator[ThreadedRoomPeer]:
    """A server with rooms, answering in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted server", daemon=True)
    thread.start()

    async def opened() -> ThreadedRoomPeer:
        peer = ThreadedRoomPeer(authority, folder)
        peer.loop, peer.keys = loop, [reference_key("a_1", _SEED)]
        return await peer.__aenter__()

    peer = asyncio.run_coroutine_threadsafe(opened(), loop).result(PATIENCE_S)
    try:
        yield peer
    finally:
        asyncio.run_coroutine_threadsafe(peer.__aexit__(None, None, None), loop).result(PATIENCE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()

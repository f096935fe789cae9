"""The wire before a homeserver's federation port: a test can cut it, for everybody or from one server alone.

A server's name carries the wire's port, so that all its peers come this way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.support.patience import PATIENCE_S

_CHUNK_BYTES = 1 << 16


class Link:
    """A TCP proxy on loopback to the port `to`. `cut()`: connections are closed, new ones end at once."""

    def __init__(self, to: int) -> None:
        self.port, self._to = 0, to
        self._cut_all = False
        self._cut_from: dict[str, Callable[[], int]] = {}
        self._open: dict[asyncio.StreamWriter, tuple[str, ...]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)

    def cut(self) -> None:
        """Let nobody through."""
        self._cut_all = True
        self._loop.call_soon_threadsafe(self._close_all)

    def cut_from(self, name: str, group_of: Callable[[], int]) -> None:
        """Let no process of this process group through."""
        self._cut_from[name] = group_of
        self._loop.call_soon_threadsafe(self._close_all)

    def heal(self) -> None:
        """Let everybody through again."""
        self._cut_all = False
        self._cut_from.clear()

    def _close_all(self) -> None:
        for writer in list(self._open):
            writer.close()

    def _refused(self, port: int) -> bool:
        if self._cut_all:
            return True
        return bool(self._cut_from) and _group_at(port) in {group() for group in self._cut_from.values()}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            if await asyncio.to_thread(self._refused, writer.get_extra_info("peername")[1]):
                return
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._to)
            self._open[writer] = ()
            try:
                with contextlib.closing(there):
                    passing = [
                        asyncio.create_task(_pass_on(reader, there)),
                        asyncio.create_task(_pass_on(there_reader, writer)),
                    ]
                    await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
                    for task in passing:
                        task.cancel()
                    await asyncio.gather(*passing, return_exceptions=True)
            finally:
                self._open.pop(writer, None)

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def __enter__(self) -> Link:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(_end_all(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def _group_at(port: int) -> int | None:
    """The process group that holds the loopback socket with this local port."""
    inode = None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].split(":")[1], 16) == port:
            inode = words[9]
    for process in Path("/proc").iterdir():
        if inode is None or not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for fd in (process / "fd").iterdir():
                if os.readlink(fd) == f"socket:[{inode}]":
                    return os.getpgid(int(process.name))
    return None

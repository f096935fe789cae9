"""An HTTP/1.1 client that costs little: the generator shares the machine with what it measures.

One request at a time on one kept connection; parsed by httptools.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson


class UnexpectedAnswer(Exception):
    """A server answered something else than 200, or hung up."""


class Connection(asyncio.Protocol):
    """One connection to a homeserver, with the access token of one user (or none)."""

    def __init__(self, netloc: str, token: str | None) -> None:
        self._fields = f" HTTP/1.1\r\nHost: {netloc}\r\n"
        if token is not None:
            self._fields += f"Authorization: Bearer {token}\r\n"
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._parts: list[bytes] = []
        self._asked = ""

    @classmethod
    async def open(cls, url: str, token: str | None = None) -> Connection:
        """Connect to the host and port of `url`."""
        where = urlsplit(url)
        if where.hostname is None or where.port is None:
            raise ValueError(f"{url}: host and port are needed")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(where.netloc, token), where.hostname, where.port)
        return connection

    async def request(self, method: str, path: str, body: object = None) -> bytes:
        """The body of the answer; raises UnexpectedAnswer unless that is a 200. `path` is percent-encoded."""
        if self._transport is None or self._answer is not None:
            raise UnexpectedAnswer(f"{method} {path}: not connected, or busy with {self._asked}")
        self._asked = f"{method} {path}"
        self._parts = []
        self._parser = httptools.HttpResponseParser(self)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answer = answer
        data = b"" if body is None else orjson.dumps(body)
        head = f"{self._asked}{self._fields}Content-Length: {len(data)}\r\nContent-Type: application/json\r\n\r\n"
        self._transport.write(head.encode("latin-1") + data)
        try:
            return await answer
        finally:
            self._answer = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is none of asyncio's classes, only of their shape
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(UnexpectedAnswer(f"{self._asked}: the server hung up"))

    # -- httptools' callbacks

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        status, body = self._parser.get_status_code(), b"".join(self._parts)
        answer = self._answer
        if answer is None or answer.done():
            return
        if status == 200:
            answer.set_result(body)
        else:
            answer.set_exception(UnexpectedAnswer(f"{self._asked}: {status} {body[:300]!r}"))


async def answers(url: str, path: str) -> bool:
    """Does the server answer 200 to a GET now?"""
    with contextlib.suppress(OSError, UnexpectedAnswer):
        async with await Connection.open(url) as connection:
            await connection.request("GET", path)
            return True
    return False

"""What is written in one turn of the event loop is one write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from annals.server.config import Listener
from annals.server.http import _settings
from annals.server.together import TOGETHER_BYTES_MAX, Together, TogetherProtocol
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.anyio


class _Transport:
    def __init__(self) -> None:
        self.did: list[bytes | str] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.did.append(data)

    def close(self) -> None:
        self.closing = True
        self.did.append("close")

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.did.append("pause")

    def get_extra_info(self, name: str) -> None:
        return None


async def test_head_and_body_are_one_write() -> None:
    transport = _Transport()
    together = Together(transport)
    together.write(b"head ")
    together.write(b"body")
    assert transport.did == []
    await asyncio.sleep(0)
    together.write(b"next")
    await asyncio.sleep(0)
    assert transport.did == [b"head body", b"next"]


async def test_what_waits_is_written_before_the_end_and_nothing_after_it() -> None:
    transport = _Transport()
    together = Together(transport)
    together.write(b"last words")
    together.close()
    together.write(b"too late")
    await asyncio.sleep(0)
    assert transport.did == [b"last words", "close"]


async def test_much_is_written_at_once_and_the_rest_is_the_transports() -> None:
    transport = _Transport()
    together = Together(transport)
    together.write(b"head")
    together.write(b"x" * TOGETHER_BYTES_MAX)
    assert transport.did == [b"head" + b"x" * TOGETHER_BYTES_MAX]
    together.pause_reading()
    await asyncio.sleep(0)
    assert transport.did[1:] == ["pause"]


async def test_an_answer_over_http_is_one_write() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"body"})

    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None)
    config.load()
    transport = _Transport()
    protocol = TogetherProtocol(config, ServerState(), {})
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        while not transport.did:  # noqa: ASYNC110
            await asyncio.sleep(0)
    (answer,) = transport.did
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\nbody")
    protocol.connection_lost(None)


async def test_every_listener_answers_so() -> None:
    assert _settings(object(), Listener(), first=True).http_protocol_class is TogetherProtocol

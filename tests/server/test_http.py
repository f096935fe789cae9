"""Requests that are still waited for when a process ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from annals.server.http import answering_when_cancelled


async def _cancelled(app: Any, kind: str = "http") -> list[Any]:
    """What is sent when uvicorn cancels the request."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    task = asyncio.create_task(answering_when_cancelled(app)({"type": kind}, None, send))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await task
    return sent


async def _waits(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(3600)


async def _waits_within_its_answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(3600)


def test_who_is_cancelled_before_an_answer_is_told_to_try_again() -> None:
    start, body = asyncio.run(_cancelled(_waits))
    assert start["status"] == 503
    assert json.loads(body["body"])["errcode"] == "M_UNKNOWN"
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()


@pytest.mark.parametrize(("app", "kind"), [(_waits_within_its_answer, "http"), (_waits, "lifespan")])
def test_all_else_is_cancelled_as_ever(app: Any, kind: str) -> None:
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_cancelled(app, kind))

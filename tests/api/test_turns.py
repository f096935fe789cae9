"""However much one server asks at once, the others are heard."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from annals.api.auth.turns import Turns
from annals.api.errors import ApiError


async def _all_that_can_run_has() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_server_has_some_turns_and_its_other_questions_wait() -> None:
    asyncio.run(_many_ask())


def test_who_goes_away_while_it_waits_gives_its_place_back() -> None:
    asyncio.run(_one_goes_away())


async def _many_ask() -> None:
    turns, inside = Turns(at_once=2, waiting_max=1), list[str]()
    end = asyncio.Event()

    async def ask(name: str, server: str = "eager.example") -> None:
        async with turns.of(server):
            inside.append(name)
            await end.wait()

    tasks = [asyncio.create_task(ask(name)) for name in ("first", "second", "third")]
    await _all_that_can_run_has()
    assert inside == ["first", "second"]
    with pytest.raises(ApiError) as refused:
        await ask("fourth")
    assert (refused.value.status, refused.value.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert refused.value.extra["retry_after_ms"] > 0
    other = asyncio.create_task(ask("another", "other.example"))
    await _all_that_can_run_has()
    assert inside == ["first", "second", "another"]
    end.set()
    await asyncio.gather(*tasks, other)
    assert inside == ["first", "second", "another", "third"]
    assert turns._servers == {}


async def _one_goes_away() -> None:
    turns = Turns(at_once=1, waiting_max=1)
    async with AsyncExitStack() as first:
        await first.enter_async_context(turns.of("eager.example"))
        waits = asyncio.create_task(AsyncExitStack().enter_async_context(turns.of("eager.example")))
        await _all_that_can_run_has()
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
    assert turns._servers == {}
    async with turns.of("eager.example"):
        pass

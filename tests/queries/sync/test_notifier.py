"""The notifier: who is concerned wakes, and no move is lost between a read and the wait after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import pytest

from annals.queries.sync.notifier import MOVES_KEPT, Notifier
from tests.support.patience import PATIENCE_S

NOT_LONG_S = 0.02
LONG_S = PATIENCE_S


def woken(move: Callable[[Notifier], None], rooms: Collection[str] = ("!a",), timeout_s: float = LONG_S) -> bool:
    """Whether @u wakes when `move` happens while it waits."""

    async def story() -> bool:
        notifier = Notifier()
        waiting = asyncio.create_task(notifier.wait("@u", frozenset(rooms), notifier.seen, timeout_s))
        await asyncio.sleep(0)
        move(notifier)
        return await waiting

    return asyncio.run(story())


def test_rooms_and_users_wake() -> None:
    assert woken(lambda n: n.moved(["!a"], []))
    assert woken(lambda n: n.moved([], ["@u"]))
    assert woken(lambda n: n.moved([], [], everything=True))


@pytest.mark.parametrize("move", [(["!b"], []), ([], ["@v"]), ([], [])])
def test_others_sleep_on(move: tuple[list[str], list[str]]) -> None:
    assert not woken(lambda n: n.moved(*move), timeout_s=NOT_LONG_S)


@pytest.mark.parametrize(("rooms", "expected"), [(["!a"], True), (["!b"], False)])
def test_what_moved_after_the_read_is_not_lost(rooms: list[str], expected: bool) -> None:
    async def story() -> bool:
        notifier = Notifier()
        seen = notifier.seen
        notifier.moved(rooms, [])
        return await notifier.wait("@u", frozenset(["!a"]), seen, NOT_LONG_S)

    assert asyncio.run(story()) is expected


def test_more_moves_than_are_kept_wake_everybody() -> None:
    async def story() -> bool:
        notifier = Notifier()
        seen = notifier.seen
        for _ in range(MOVES_KEPT + 1):
            notifier.moved(["!other"], [])
        return await notifier.wait("@u", frozenset(["!a"]), seen, NOT_LONG_S)

    assert asyncio.run(story())


def test_nothing_stays_of_who_went_away() -> None:
    async def story() -> None:
        notifier = Notifier()
        waiting = asyncio.create_task(notifier.wait("@u", frozenset(["!a", "!b"]), 0, LONG_S))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await notifier.wait("@u", frozenset(["!a"]), 0, 0)
        assert not notifier._by_room
        assert not notifier._by_user

    asyncio.run(story())

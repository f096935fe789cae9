"""Commands that make rooms, carried on by the worker while the tables of their users are late."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from annals.commands.rooms.creating import RoomCommandKind
from annals.commands.rooms.creation import RoomRequest
from tests.support.folded_apart import OTHERS, USERS, Order, World, folded_apart
from tests.support.postgres import PostgresServer
from tests.support.rooms import SERVER

ALICE, ALIAS = f"@alice:{SERVER}", f"#house:{SERVER}"


@pytest.fixture
def world(postgres: PostgresServer, tmp_path: Path) -> Iterator[World]:
    """In which nothing has happened."""
    with folded_apart(postgres, tmp_path) as made:
        yield made


def test_what_was_ended_is_not_done_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is made, and its alias given up; the tables have the start of the command, not yet its end."""
    monkeypatch.setattr(RoomCommandKind, "grace_s", 1e-9)

    async def story() -> None:
        # started; the tables have that; the alias is claimed, and all the rest done
        order = Order("sfc")
        making, here = world.process(order, appends="s", folds={OTHERS: "c"}), world.process()

        async def fold() -> None:
            async with order.turn("f"):
                world.fold(USERS)

        request = RoomRequest(ALICE, alias=ALIAS)
        await asyncio.gather(order.act("sc", making.rooms.create(request, None, "made")), order.act("f", fold()))
        await here.aliases.release(ALIAS, ALICE)
        assert world.rows("SELECT state FROM commands") == [("started",)]
        for _ in range(2):
            # At first it is left to who began it.
            assert await here.worker.run_pass()

    asyncio.run(story())
    assert world.rows("SELECT state FROM commands") == [("done",)]
    assert world.rows("SELECT alias FROM aliases") == []

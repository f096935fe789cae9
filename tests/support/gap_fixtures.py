"""The fixture `play`: a story with a house of ours (gap_house), a room of a peer that we are in, and another peer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Protocol

import pytest

from annals.eventlog.embedded import open_embedded
from tests.support.gap_house import US, GapHouse, gap_house
from tests.support.peer_room import PeerRoom
from tests.support.postgres import PostgresServer
from tests.support.rebuild_check import assert_generations_equal
from tests.support.scripted_peer import Authority, ScriptedPeer, make_authority
from tests.support.soak import is_soak
from tests.support.spare_tables import spare_tables

Story = Callable[[GapHouse, PeerRoom, ScriptedPeer], Awaitable[None]]


class Play(Protocol):
    """Runs a story. `late`: we come in after so many messages, by a state that the peer gives us. `rebuilt`: when it
    is over the tables are built anew from the log, come out the same, and nobody is asked anything; with `in_soak` only
    in a soak, as other stories have facts of the same kinds."""

    def __call__(
        self, story: Story, version: str = "10", late: int | None = None, rebuilt: bool = False, in_soak: bool = False
    ) -> None: ...


@pytest.fixture(scope="session")
def gap_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority of the scripted peers."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def play(
    request: pytest.FixtureRequest, postgres: PostgresServer, tmp_path: Path, gap_authority: Authority
) -> Iterator[Play]:
    """Run a story."""

    def run(
        story: Story, version: str = "10", late: int | None = None, rebuilt: bool = False, in_soak: bool = False
    ) -> None:
        async def whole() -> None:
            async with AsyncExitStack() as parts:
                peer = await parts.enter_async_context(ScriptedPeer(gap_authority, tmp_path))
                other = await parts.enter_async_context(ScriptedPeer(gap_authority, tmp_path, "other.example"))
                async with gap_house(url, tmp_path, gap_authority) as house:
                    room = PeerRoom(peer, version)
                    if late is None:
                        await house.enter(room)
                    else:
                        room.talk(late)
                        await house.enter_late(room)
                    await story(house, room, other)
                if rebuilt and (is_soak(request.config) or not in_soak):
                    asked = len(peer.requests) + len(other.requests)
                    await asyncio.to_thread(_rebuild, tmp_path, url)
                    assert len(peer.requests) + len(other.requests) == asked

        asyncio.run(whole())

    with spare_tables(postgres).tables() as url:
        yield run


def _rebuild(folder: Path, url: str) -> None:
    with closing(open_embedded(folder / "log")) as log:
        assert_generations_equal(log, url, US)

"""Row 42: nobody makes the server connect to an address of its own house, by whatever request.

Redirects, delegation and names that change their address: tests/federation/test_client.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from annals.database.migrate import migrate
from annals.server.handshakes import handshake_runner
from tests.support.federating import World
from tests.support.postgres import PostgresServer
from tests.support.remote_server import RemoteServer
from tests.support.scripted_peer import make_authority
from tests.support.server import live_server, quoted

HOSTS = ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"]


@pytest.fixture(scope="module")
def inside(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that may connect to public addresses only, as it comes, and its handshakes."""
    folder: Path = tmp_path_factory.mktemp("inside")
    authority, url = make_authority(folder / "authority"), postgres.fresh_database("inside")
    migrate(url)
    with live_server(url, folder / "server", federation={"ca_files": [authority.cert]}) as server:
        world = World(server, authority, folder, [])

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(handshake_runner(server.house, "handshakes").run())

        async def end() -> None:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

        working = server.on_loop(begin())
        yield world
        server.on_loop(end())
        for peer in world.peers:
            server.on_loop(peer.__aexit__())
    postgres.drop_database(url)


@pytest.mark.parametrize("host", HOSTS)
def test_no_question_goes_inside(inside: World, host: str) -> None:
    server, peer = inside.server, inside.peer()
    alice, name = server.user("alice"), f"{host}:{peer.port}"
    answers = {
        "alias": alice.call("GET", f"/directory/room/{quoted(f'#a:{name}')}"),
        "profile": alice.call("GET", f"/profile/{quoted(f'@a:{name}')}"),
        "directory": alice.call("POST", f"/publicRooms?server={quoted(name)}", {}),
        "join": alice.call("POST", f"/join/{quoted('!room:elsewhere.example')}?via={quoted(name)}", {}),
        "invite": alice.call("POST", f"/rooms/{quoted(alice.create_room())}/invite", {"user_id": f"@a:{name}"}),
    }
    assert {what: status for what, (status, _) in answers.items() if status < 400} == {}
    assert all(answer["errcode"].startswith("M_") for _, answer in answers.values())
    # Keys are asked of whoever says to be somebody.
    assert RemoteServer(server, name, has_keys=False).send()[0] == 401
    assert peer.requests == []

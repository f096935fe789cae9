"""One Synapse and one server of ours for the whole run: stories share them, each with people of its own.

When all is told, the tables of ours must follow from its log. Both end then (`end_all`), not with the run: idle servers
take time from the tests that follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.federation import bridges
from tests.support.federation.annals import AnnalsServer
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.synapse import SynapseServer
from tests.support.rebuild_check import assert_rebuild_equal
from tests.support.scripted_peer import Authority
from tests.support.waiting import until

_open: list[ExitStack] = []


def end_all() -> None:
    """Nobody will use them any more."""
    with ExitStack() as every:
        while _open:
            every.push(_open.pop(0))


@pytest.fixture(scope="session")
def synapse(annals: Homeserver, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeserver]:
    folder: Path = tmp_path_factory.mktemp("synapse")
    with ExitStack() as stack:
        server = stack.enter_context(SynapseServer(folder, authority))
        _open.append(stack)
        _acquaint(annals, server)
        yield server


def _acquaint(one: Homeserver, other: Homeserver) -> None:
    """Let each fetch the other's keys, for which Synapse takes ten seconds and no more."""
    for asking, asked in ((one.person(), other.person()), (other.person(), one.person())):
        asked.ok("PUT", f"/profile/{asked.user_id}/displayname", {"displayname": "known"})
        path = f"/profile/{asked.user_id}"
        until(lambda: asking.call("GET", path)[0] == 200, f"{asking.user_id} hears of {asked.user_id}")  # noqa: B023


@pytest.fixture(scope="session")
def annals(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeserver]:
    folder: Path = tmp_path_factory.mktemp("annals")
    with ExitStack() as stack:
        server = AnnalsServer(folder, authority, bridges.registered(folder))
        stack.enter_context(server)
        stack.callback(_end, server)
        _open.append(stack)
        yield server


def _end(server: AnnalsServer) -> None:
    server.stop()
    assert_rebuild_equal(server.config)

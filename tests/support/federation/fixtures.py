"""One Synapse and one server of ours for the whole run of a worker: stories share them, each with people of its own.

When all is told, the tables of ours must follow from its log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.federation.annals import AnnalsServer
from tests.support.federation.homeserver import Homeserver
from tests.support.federation.synapse import SynapseServer
from tests.support.rebuild_check import assert_rebuild_equal
from tests.support.scripted_peer import Authority


@pytest.fixture(scope="session")
def synapse(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeserver]:
    folder: Path = tmp_path_factory.mktemp("synapse")
    with SynapseServer(folder, authority) as server:
        yield server


@pytest.fixture(scope="session")
def annals(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeserver]:
    folder: Path = tmp_path_factory.mktemp("annals")
    server = AnnalsServer(folder, authority)
    with server:
        yield server
        server.stop()
        assert_rebuild_equal(server.config)

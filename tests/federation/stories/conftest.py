from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.federation.homeserver import Homeserver
from tests.support.federation.stories import Sides
from tests.support.federation.synapse import SynapseServer
from tests.support.scripted_peer import Authority

#: With this variable the stories are told with Synapse on both sides: does the story itself hold?
SYNAPSE_ALONE = "STORIES_OF_SYNAPSE_ALONE"


@pytest.fixture(scope="session")
def ours(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Homeserver]:
    """Our server."""
    if SYNAPSE_ALONE in os.environ:
        folder: Path = tmp_path_factory.mktemp("other-synapse")
        with SynapseServer(folder, authority) as server:
            yield server
    else:
        yield request.getfixturevalue("annals")


@pytest.fixture(params=["ours", "theirs"])
def sides(request: pytest.FixtureRequest, ours: Homeserver, synapse: Homeserver) -> Sides:
    """Both directions: the room is made on our server, or on Synapse."""
    return Sides(ours, synapse) if request.param == "ours" else Sides(synapse, ours)

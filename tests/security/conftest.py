"""One running server for these tests; each brings people and rooms of its own.

What an attacker may do has nothing to do with the kind of log: on Kafka these run in a soak.
"""

from __future__ import annotations

import pytest

from tests.support.federation_fixtures import asked
from tests.support.gap_fixtures import gap_authority, play
from tests.support.server_fixtures import log_backend
from tests.support.servers import Serve
from tests.support.soak import only_in_soak
from tests.support.sync_fixtures import world

__all__ = ["asked", "gap_authority", "log_backend", "play", "server", "world"]


@pytest.fixture(scope="session", params=["embedded", only_in_soak("kafka")])
def server(request: pytest.FixtureRequest) -> Serve:
    """The one server of this run on this log."""
    serving: Serve = request.getfixturevalue(f"{request.param}_server")
    return serving

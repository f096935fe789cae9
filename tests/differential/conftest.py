"""One judge for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.peer import Synapse

_SECONDS = 3
_SECONDS_IN_SOAK = 60


@pytest.fixture(scope="session")
def synapse() -> Iterator[Synapse]:
    """Synapse; its environment is made first where it is missing (minutes, once)."""
    with Synapse() as judge:
        yield judge


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> int:
    """How long a test of one room version goes on with new rooms."""
    return _SECONDS_IN_SOAK if request.config.getoption("--hypothesis-profile") == "soak" else _SECONDS

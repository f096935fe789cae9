"""One judge for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.peer import Synapse
from tests.support.soak import is_soak

_ROOMS = 3
_ROOMS_IN_SOAK = 200


@pytest.fixture(scope="session")
def synapse() -> Iterator[Synapse]:
    """Synapse; its environment is made first where it is missing (minutes, once)."""
    with Synapse() as judge:
        yield judge


@pytest.fixture
def rooms(request: pytest.FixtureRequest) -> int:
    """How many rooms of one version are grown."""
    return _ROOMS_IN_SOAK if is_soak(request.config) else _ROOMS

"""Fixtures: a world of rooms over a log and tables."""

import pytest

from tests.support.sync_fixtures import world

__all__ = ["anyio_backend", "world"]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests."""
    return "asyncio"

"""One running server for these tests; each brings people and rooms of its own."""

from __future__ import annotations

import pytest

from tests.support.servers import Serve
from tests.support.soak import only_in_soak


@pytest.fixture(scope="session", params=["embedded", only_in_soak("kafka")])
def server(request: pytest.FixtureRequest) -> Serve:
    """Most of it is refused before it gets to a log: one of them will do."""
    serving: Serve = request.getfixturevalue(f"{request.param}_server")
    return serving

"""One running server for the stories of this folder; each story brings people and rooms of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Serve


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """`annals serve` as a newcomer starts it."""
    with Serve(tmp_path_factory.mktemp("e2e")) as serving:
        serving.start()
        yield serving

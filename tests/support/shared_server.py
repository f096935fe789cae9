"""One running server for all tests that only need some server: `annals serve`, as a newcomer starts it.

A conftest.py that wants it imports the fixture: `from tests.support.shared_server import server`.
"""

from __future__ import annotations

import pytest

from tests.support.servers import Serve

_SERVER = pytest.StashKey[Serve]()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """The one server of this run; each test brings users and rooms of its own."""
    stash = request.config.stash
    if _SERVER not in stash:
        serving = Serve(tmp_path_factory.mktemp("shared"), ANNALS_REGISTRATION__SHARED_SECRET="complement")
        request.config.add_cleanup(lambda: serving.__exit__(None, None, None))
        serving.start()
        stash[_SERVER] = serving
    return stash[_SERVER]

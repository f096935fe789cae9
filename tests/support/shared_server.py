"""One running server for all tests that only need some server: `annals serve`, as a newcomer starts it.

A conftest.py that wants it imports the fixture: `from tests.support.shared_server import server`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rebuild_check import assert_rebuild_equal
from tests.support.servers import Serve

_SERVER = pytest.StashKey[Serve]()
_CHECKED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The one server of this run; each test brings users and rooms of its own.

    When all tests are through, its tables are built again from its log, and compared.
    """
    stash = request.config.stash
    if _SERVER not in stash:
        serving = Serve(tmp_path_factory.mktemp("shared"), ANNALS_REGISTRATION__SHARED_SECRET="complement")
        request.config.add_cleanup(lambda: serving.__exit__(None, None, None))
        serving.start()
        stash[_SERVER] = serving
    yield stash[_SERVER]
    # Several conftest files have this fixture; all of them end when the run does.
    if not stash.get(_CHECKED, False):
        stash[_CHECKED] = True
        assert_rebuild_equal(stash[_SERVER].config)

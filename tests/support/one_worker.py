"""What one worker of a run runs alone: tests that share what takes long to start, and longer to be compared at its end.

Each of `TOGETHER` goes to one worker, whichever is free; all other files go one by one. Servers of the whole run
(tests.support.shared_server, tests.support.server_fixtures) end with the last test that may ask for them: while their
tables are built again, and compared, the other workers have other tests to run.
"""

from __future__ import annotations

from typing import Any

import pytest

TOGETHER = (
    ("tests/federation/",),
    ("tests/crash/",),
    (
        *("tests/e2e/", "tests/security/", "tests/api/rooms/", "tests/api/server/", "tests/schemathesis/"),
        *("tests/queries/sync/test_memberships_rebuilt.py", "tests/queries/sync/test_rooms_elsewhere.py"),
    ),
)
SERVERS = ("embedded_server", "kafka_server", "embedded_live_server", "kafka_live_server")


def together(nodeid: str) -> str | None:
    """A name of the tests that this one stays with, if there are any."""
    return next((starts[0] for starts in TOGETHER if nodeid.startswith(starts)), None)


def is_last(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Whether no test comes that stays with this one."""
    group = together(item.nodeid)
    return group is not None and (nextitem is None or group != together(nextitem.nodeid))


def end_servers(item: pytest.Item) -> None:
    """As at the end of the run."""
    fixtures: Any = item.session._fixturemanager
    request: Any = item._request  # type: ignore[attr-defined]
    for name in SERVERS:
        for fixture in fixtures.getfixturedefs(name, item) or ():
            fixture.finish(request)

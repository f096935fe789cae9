"""One whole server for all proofs of this folder: PostgreSQL flushes late, and faults can be switched on.

After the last of them nothing may stand twice on the decisions topic, and the tables must follow from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends import LogBackend
from tests.support.crashes import Whole, wait_ready
from tests.support.limits import with_limits
from tests.support.matrix_client import register
from tests.support.patience import PATIENCE_S
from tests.support.rebuild_check import assert_rebuild_equal, decided_twice
from tests.support.servers import Serve

FAULTY = Path(__file__).parents[1] / "support" / "faulty"


@pytest.fixture(scope="package")
def whole(log_backend: LogBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("crash")
    fault = folder / "fault"
    path = os.pathsep.join(filter(None, (str(FAULTY), os.environ.get("PYTHONPATH"))))
    environment = {
        # The longest that PostgreSQL lets a commit wait for the disk.
        "ANNALS_POSTGRES_SETTINGS": '{"wal_writer_delay": "10s"}',
        "PYTHONPATH": path,
        "TEST_FAULT_FILE": str(fault),
        # Of a server whose supervisor was killed the last process may go late.
        **with_limits({"annals.server.http:PORT_PATIENCE_S": PATIENCE_S}),
        **log_backend.environment(),
        # A process that was killed is missed sooner.
        "ANNALS_KAFKA__MEMBER_WAIT_S": "8",
    }
    with Serve(folder, **environment) as serve:
        serve.start()
        ann, bob = register(serve.port, "ann"), register(serve.port, "bob")
        room_id = ann.create_room(preset="public_chat")
        bob.room(room_id, "join")
        yield Whole(serve, ann, bob, room_id, fault)
        wait_ready(serve)
        serve.stop()
        assert decided_twice(serve.config) == []
        # Not by deciding anew: an injected fault is not on the log.
        assert_rebuild_equal(serve.config, modes=("fold",))

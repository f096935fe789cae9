"""What serves, leases, cursors."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from annals.database import ops
from annals.database.errors import BadGenerationName, NotMigrated
from annals.database.ops import Lease
from annals.database.write_connection import WriteConnection
from tests.support.patience import PATIENCE_S


@pytest.fixture
def operations(url: str) -> Iterator[WriteConnection]:
    connection = WriteConnection(url, synchronous_commit=True)
    yield connection
    connection.close()


def test_one_generation_serves(operations: WriteConnection) -> None:
    assert ops.serving(operations) == "g1"
    ops.serve(operations, "g2")
    assert ops.serving(operations) == "g2"
    assert operations.one("SELECT count(*) FROM ops.serving") == (1,)
    with pytest.raises(BadGenerationName):
        ops.serve(operations, "public")
    operations.execute("DELETE FROM ops.serving")
    with pytest.raises(NotMigrated):
        ops.serving(operations)
    ops.serve(operations, "g1")
    assert ops.serving(operations) == "g1"


def test_a_lease_has_one_owner_until_it_expires(operations: WriteConnection) -> None:
    lease = ops.take_lease(operations, "join", "a", now_ms=1000, duration_ms=50)
    assert lease == Lease("join", "a", 1050)
    assert ops.take_lease(operations, "join", "b", now_ms=1049, duration_ms=50) is None
    assert ops.take_lease(operations, "other", "b", now_ms=1049, duration_ms=50) == Lease("other", "b", 1099)
    assert ops.take_lease(operations, "join", "b", now_ms=1050, duration_ms=50) == Lease("join", "b", 1100)
    assert ops.renew_lease(operations, lease, now_ms=1051, duration_ms=50) is None
    ops.release_lease(operations, lease)
    assert ops.leases(operations) == [Lease("join", "b", 1100), Lease("other", "b", 1099)]


def test_an_owner_keeps_its_lease(operations: WriteConnection) -> None:
    lease = ops.take_lease(operations, "join", "a", now_ms=1000, duration_ms=50)
    assert lease is not None
    assert ops.take_lease(operations, "join", "a", now_ms=1010, duration_ms=50) == Lease("join", "a", 1060)
    # Late, but nobody took it.
    assert ops.renew_lease(operations, lease, now_ms=2000, duration_ms=50) == Lease("join", "a", 2050)
    ops.release_lease(operations, lease)
    assert ops.leases(operations) == []
    assert ops.renew_lease(operations, lease, now_ms=2010, duration_ms=50) is None


def test_two_takers_at_once_are_one_owner(url: str, operations: WriteConnection) -> None:
    other = WriteConnection(url, synchronous_commit=True, lock_timeout_ms=int(PATIENCE_S * 1000))
    operations.begin()
    assert ops.take_lease(operations, "join", "a", now_ms=1000, duration_ms=50)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(ops.take_lease, other, "join", "b", 1000, 50)
        while operations.one("SELECT count(*) FROM pg_locks WHERE NOT granted") == (0,):
            assert not second.done()
        operations.commit()
        assert second.result(PATIENCE_S) is None
    other.close()


def test_cursors_are_by_worker(operations: WriteConnection) -> None:
    assert ops.cursor(operations, "push") is None
    ops.save_cursor(operations, "push", "rooms:0:7")
    ops.save_cursor(operations, "push", "rooms:0:9")
    ops.save_cursor(operations, "sender", "rooms:0:1")
    assert ops.cursor(operations, "push") == "rooms:0:9"
    assert ops.cursor(operations, "sender") == "rooms:0:1"

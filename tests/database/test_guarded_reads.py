"""A guard refuses snapshots of tables that were set back, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from annals.database.errors import TablesBehind
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.write_connection import WriteConnection


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    pool = Database(url, threads=1)
    yield pool
    pool.close()


def test_a_refused_snapshot_is_not_read_from(database: Database, writer: WriteConnection) -> None:
    def refuse(snapshot: Snapshot) -> None:
        raise TablesBehind("set back")

    database.guard_reads(lambda: refuse)
    with pytest.raises(TablesBehind):
        database.read_now(lambda snapshot: pytest.fail("it was read from"))
    database.guard_reads(lambda: lambda snapshot: None)
    assert database.read_now(lambda snapshot: snapshot.one("SELECT 1")) == (1,)


def test_what_is_expected_is_known_before_the_snapshot_is_taken(database: Database, writer: WriteConnection) -> None:
    order: list[str] = []

    def expect() -> Callable[[Snapshot], None]:
        order.append("expect")
        return lambda snapshot: order.append("compare")

    database.guard_reads(expect)
    database.on_statement = lambda sql: order.append("begin") if sql.startswith("BEGIN") else None
    database.read_now(lambda snapshot: order.append("read"))
    assert order == ["expect", "begin", "compare", "read"]

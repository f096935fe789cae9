"""At the end of every suite that makes traffic: the tables follow from the log, and from nothing else.

    assert_rebuild_equal(server.config)                              # an `annals serve`, running (idle) or stopped
    assert_generations_equal(log, database_url, "localhost")         # a suite with a log and a database of its own

Builds two generations beside the one that serves, one from its recorded decisions and one by deciding anew, compares
them row for row with it in all tables that promise equality, and drops them.
"""

from __future__ import annotations

import gc
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from annals.audit import replaying
from annals.audit.generations import list_generations, recorded_generations
from annals.audit.replaying import bring_up
from annals.audit.row_diff import TableDiff, diff_rows
from annals.database.migrate import drop_generation
from annals.database.pool import Database
from annals.eventlog.api import Log
from annals.eventlog.reading import records_between
from annals.projectors.rebuild import Mode, replay
from annals.schemas.codec import decode
from annals.schemas.facts.decisions import Decision, Mark
from annals.server.config import Config
from annals.server.operator_access import opened_log, opened_tables
from tests.support.patience import PATIENCE_S

MODES: tuple[Mode, ...] = ("fold", "recompute")


def assert_rebuild_equal(config: Config, modes: tuple[Mode, ...] = MODES) -> None:
    """For the log and the tables of a server with this configuration, which may be running, but idle."""
    with _frozen(), opened_log(config) as log, opened_tables(config) as database:
        assert database is not None
        (serves,) = [found.name for found in list_generations(log, database) if found.serves]
        _bring_up(log, database, serves, config.server_name)
        _compare(log, database, serves, config.server_name, modes)


def assert_generations_equal(
    log: Log, url: str, server_name: str, generation: str = "g1", modes: tuple[Mode, ...] = MODES
) -> None:
    """For a log and the tables that follow it, which nobody writes any more."""
    database = Database(url, threads=1, statement_timeout_ms=0)
    try:
        with _frozen():
            _bring_up(log, database, generation, server_name)
            _compare(log, database, generation, server_name, modes)
    finally:
        database.close()


@contextmanager
def _frozen() -> Iterator[None]:
    """A replay lets the search for cycles leave out what was there before it, and at its end have all of it again.

    That were the million objects of the tests too, which tests/conftest.py left out for good: three searches through
    them for each server, and one every few seconds ever after.
    """
    with mock.patch.object(gc, "unfreeze"):
        yield


def _bring_up(log: Log, database: Database, generation: str, server_name: str) -> None:
    with mock.patch.multiple(replaying, LIVE_WAIT_S=PATIENCE_S, BEGIN_WAIT_S=PATIENCE_S):
        bring_up(log, database, generation, server_name)


def _compare(log: Log, database: Database, serves: str, server_name: str, modes: tuple[Mode, ...]) -> None:
    for mode in modes:
        name = f"g{secrets.randbelow(10**8) + 100}"
        assert name not in recorded_generations(log)
        try:
            replay(log, database.url, name, mode, server_name, source_generation=serves if mode == "fold" else None)
            tables = diff_rows(database, serves, name)
        finally:
            drop_generation(database.url, name)
        assert_equal(tables, f"{serves} and a {mode} of it")


def assert_equal(tables: list[TableDiff], what: str) -> None:
    """AssertionError that shows rows, where a table differs; there must be rows to compare at all."""
    unequal = [table for table in tables if not table.equal]
    said = "\n".join(
        f"{table.table}: {table.only_left} only left, {table.only_right} only right\n"
        + "\n".join(f"    {generation} {row}" for generation, row in table.examples)
        for table in unequal
    )
    assert not unequal, f"{what} differ:\n{said}"
    assert any(table.rows for table in tables), f"{what}: nothing to compare"


def decided_twice(config: Config, generation: str = "g1", *, but_void: bool = False) -> list[tuple[int, int]]:
    """(partition, stream position) of what stands more than once on a decisions topic: decided anew.

    Records that were void from the start count too, unless they are left out, as by every reader: a writer that stalled
    when it had handed them to the log's client sends them when it goes on, behind the mark of who took its partition.
    """
    with opened_log(config) as log:
        topic = f"decisions.{generation}"
        return [
            (partition, position)
            for partition in range(log.partitions(topic))
            for position, count in Counter(_positions(log, topic, partition, but_void)).items()
            if count > 1
        ]


def _positions(log: Log, topic: str, partition: int, but_void: bool) -> Iterator[int]:
    marked_epoch = 0
    for record in records_between(log, topic, partition, 0):
        made = decode(record.value) if record.value is not None else None
        if isinstance(made, Mark):
            marked_epoch = max(marked_epoch, made.epoch)
        elif isinstance(made, Decision) and not (but_void and made.epoch < marked_epoch):
            yield made.position

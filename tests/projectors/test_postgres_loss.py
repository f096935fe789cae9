"""All of PostgreSQL is killed with commits that are not on disk: nothing is lost, nothing is decided anew."""

from __future__ import annotations

import random
from pathlib import Path

import psutil
import pytest

from annals.database.errors import DatabaseError
from annals.database.migrate import migrate
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.loop import Loop, Settings
from annals.server.embedded_postgres import EmbeddedPostgres
from tests.support.decisions import decisions_that_count
from tests.support.projectors import SERVER_NAME, append, connector, dump, simple_facts
from tests.support.room_traffic import traffic

# Commits reach the disk as late as the server allows.
LATE = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "wal_buffers": "64MB"}


def _kill_all(postgres: EmbeddedPostgres) -> None:
    assert postgres.process is not None
    postmaster = psutil.Process(postgres.process.pid)
    everyone = [postmaster, *postmaster.children(recursive=True)]
    for process in everyone:
        process.suspend()
    for process in everyone:
        process.kill()
    postgres.process.wait()


def test_what_postgres_loses_is_folded_again(log: EmbeddedLog, tmp_path: Path) -> None:
    rng = random.Random(31)
    _, facts = traffic(rng, rooms=2, length=10)
    postgres = EmbeddedPostgres(tmp_path / "pg", settings=LATE)
    postgres.start()
    try:
        migrate(postgres.url(), "g1")
        loop = Loop(log, connector(postgres.url()), Settings("g1", SERVER_NAME, "one", records_max=20))
        loop.take()
        append(log, [*facts, *simple_facts(rng, 30)])
        loop.catch_up()
        lived, decided = dump(postgres.url()), decisions_that_count(log)
        _kill_all(postgres)
        postgres.stop()
        with pytest.raises(DatabaseError):
            append(log, simple_facts(rng, 1))
            loop.catch_up()
        loop.close()

        postgres.start()
        lost = dump(postgres.url())
        assert lost["next_offsets"] < lived["next_offsets"], "positions did not go back: the test tests nothing"
        loop.take()
        loop.catch_up()
        loop.close()
        assert decisions_that_count(log) == decided
        assert dump(postgres.url())["events"] == lived["events"]
        assert dump(postgres.url())["current_state_deltas"] == lived["current_state_deltas"]
    finally:
        postgres.stop()

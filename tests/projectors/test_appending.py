"""Appending: schemas first, partitions by key, offsets in order, waits that run out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest

from annals.commands.errors import NOT_NOW, LogBehindTables, TryAgain
from annals.eventlog.api import TopicPartition
from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.eventlog.errors import LogClosed, TopicReplaced
from annals.eventlog.partition import partition_of
from annals.projectors.positions.appending import Appender, Submitted
from annals.schemas.codec import decode, fingerprint_in, schema_file
from annals.schemas.facts.directory import RoomPublished
from annals.schemas.facts.users import AllDevicesLoggedOut, DeviceLoggedOut
from annals.schemas.topics import TOPICS


class Tables:
    """Tables that reach what they are told to reach."""

    def __init__(self, reaches: bool = True) -> None:
        self.reaches = reaches
        self.known: dict[TopicPartition, int] = {}
        self.asked: list[dict[TopicPartition, int]] = []
        self.waits_s: list[float] = []

    async def reached(self, vector: Mapping[TopicPartition, int], timeout_s: float) -> bool:
        self.asked.append(dict(vector))
        self.waits_s.append(timeout_s)
        return self.reaches


@pytest.fixture
def log(tmp_path: Path) -> EmbeddedLog:
    """An empty log with all topics."""
    log = open_embedded(tmp_path / "log")
    log.ensure_topics(list(TOPICS.values()))
    return log


def test_facts_go_where_their_keys_say_and_their_schemas_go_before_them(log: EmbeddedLog) -> None:
    tables = Tables()
    appender = Appender(log, tables, lambda: 17, "1.0")
    envelope = appender.envelope("cause", "key")
    facts = [
        DeviceLoggedOut(envelope, "@a:x", "ONE"),
        RoomPublished(envelope, "!r", "@a:x", "public"),
        DeviceLoggedOut(envelope, "@a:x", "TWO"),
    ]
    submitted = asyncio.run(appender.submit_and_settle(facts))
    partition = partition_of("@a:x", 8)
    assert submitted.at == (("users", partition, 0), ("directory", 0, 0), ("users", partition, 1))
    assert (submitted.offset(), submitted.offset(2)) == (0, 1)
    assert tables.asked == [{("users", partition): 2, ("directory", 0): 1}] == [submitted.vector()]
    read = log.read("users", partition, 0)
    assert [decode(record.value or b"") for record in read] == [facts[0], facts[2]]
    assert (envelope.recorded_at_ms, envelope.writer, envelope.writer_version) == (17, "api", "1.0")
    # Each schema once, under its fingerprint.
    fingerprints = {fingerprint_in(record.value or b"") for record in read} | {schema_file(RoomPublished).fingerprint}
    assert {record.key for record in log.read("schemas", 0, 0)} == fingerprints
    asyncio.run(appender.submit([AllDevicesLoggedOut(envelope, "@a:x"), facts[0]]))
    assert log.end("schemas", 0) == 3
    log.close()


def test_a_wait_that_runs_out_is_try_again(log: EmbeddedLog) -> None:
    tables = Tables(reaches=False)
    appender = Appender(log, tables, lambda: 17, "1.0", wait_s=7.0)
    fact = DeviceLoggedOut(appender.envelope(), "@a:x", "ONE")
    with pytest.raises(TryAgain):
        asyncio.run(appender.submit_and_settle([fact]))
    # It is on the log all the same.
    assert log.end("users", partition_of("@a:x", 8)) == 1
    with pytest.raises(TryAgain):
        asyncio.run(appender.settle(Submitted((("users", 0, 0),)), 3.0))
    assert tables.waits_s == [7.0, 3.0]
    log.close()
    with pytest.raises(LogClosed) as raised:
        asyncio.run(appender.submit([fact]))
    assert isinstance(raised.value, NOT_NOW)


def test_a_log_that_was_set_back_is_not_taken_for_ours(log: EmbeddedLog) -> None:
    """The tables have passed the offset that an append is given: their row there is another fact's outcome."""
    tables = Tables()
    appender = Appender(log, tables, lambda: 17, "1.0")
    fact = RoomPublished(appender.envelope(), "!r", "@a:x", "public")
    asyncio.run(appender.submit_and_settle([fact]))
    tables.known["directory", 0] = 2
    with pytest.raises(LogBehindTables):
        asyncio.run(appender.submit_and_settle([fact]))
    assert LogBehindTables in NOT_NOW
    # From then on nothing more is appended.
    end = log.end("directory", 0)
    with pytest.raises(LogBehindTables):
        asyncio.run(appender.submit([fact]))
    assert log.end("directory", 0) == end


def test_a_log_that_knows_that_it_was_set_back_is_not_now(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    appender = Appender(log, Tables(), lambda: 17, "1.0")
    fact = RoomPublished(appender.envelope(), "!r", "@a:x", "public")
    replaced = Mock(side_effect=TopicReplaced("directory was made anew"))
    monkeypatch.setattr(log, "append", replaced)
    for _ in range(2):
        with pytest.raises(LogBehindTables, match="made anew"):
            asyncio.run(appender.submit_and_settle([fact]))
    replaced.assert_called_once()

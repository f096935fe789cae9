"""A crash between any two statements changes nothing; a stalled owner writes nothing; what is decided stays decided."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from annals.database.errors import ConnectionLost
from annals.database.write_connection import Part, WriteConnection
from annals.eventlog.api import Append
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.errors import FenceLost, LogWentBack, NewerDecideVersion, Superseded
from annals.projectors.loop import Loop, Settings
from annals.schemas.facts.decisions import Decision
from tests.support.decisions import decisions_that_count
from tests.support.projectors import SERVER_NAME, append, connector, dump, empty, running, simple_facts
from tests.support.room_traffic import traffic


class CrashingConnection(WriteConnection):
    """Its server vanishes before (or right after) the statement that is counted down to."""

    left = 0
    after = False

    def _crash(self) -> None:
        CrashingConnection.left -= 1
        if CrashingConnection.left == 0:
            self.close()
            raise ConnectionLost("crashed by the test")

    def execute_many_in_one(self, sql_parts: Sequence[Part]) -> list[tuple[Any, ...]]:
        if not self.after:
            self._crash()
        rows = super().execute_many_in_one(sql_parts)
        if self.after:
            self._crash()
        return rows

    def _around(self, call: Any, *arguments: Any) -> Any:
        if not self.after:
            self._crash()
        result = call(*arguments)
        if self.after:
            self._crash()
        return result

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        return self._around(super().execute, sql, params)  # type: ignore[no-any-return]

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._around(super().rows, sql, params)  # type: ignore[no-any-return]

    def copy_in(self, sql: str, *arguments: Any) -> Any:
        return self._around(super().copy_in, sql, *arguments)


def _catch_up(log: EmbeddedLog, connect: Any) -> None:
    loop = Loop(log, connect, Settings("g1", SERVER_NAME, "one", records_max=25))
    try:
        loop.take()
        loop.catch_up()
    finally:
        loop.close()


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_statement_changes_nothing(log: EmbeddedLog, tables_url: str, after: bool) -> None:
    rng = random.Random(7)
    _, facts = traffic(rng, rooms=2, length=3)
    append(log, [*facts, *simple_facts(rng, 12)])
    _catch_up(log, connector(tables_url))
    expected, decided = dump(tables_url), decisions_that_count(log)
    assert expected["events"]
    assert decided

    CrashingConnection.after = after
    crashes = 0
    for statement in range(1, 500):
        # Half of the time the decisions are on the log already, as from the second round on: fold, do not decide.
        empty(tables_url)
        CrashingConnection.left = statement
        try:
            _catch_up(log, lambda: CrashingConnection(tables_url, "g1"))
        except ConnectionLost:
            crashes += 1
        else:
            break
        _catch_up(log, connector(tables_url))
        assert dump(tables_url) == expected, f"crash at statement {statement}"
    assert crashes > 10
    assert decisions_that_count(log) == decided


def test_a_crash_while_deciding_decides_nothing_anew(log: EmbeddedLog, tables_url: str) -> None:
    """Each crash comes at a later statement of a batch that decides; the log's decisions are only ever added to."""
    rng = random.Random(8)
    _, facts = traffic(rng, rooms=2, length=5)
    CrashingConnection.after = False
    seen: list[Decision] = []
    for number, fact in enumerate(facts):
        append(log, [fact])
        CrashingConnection.left = 7 + number % 9
        with suppress(ConnectionLost):
            _catch_up(log, lambda: CrashingConnection(tables_url, "g1"))
        now = decisions_that_count(log)
        positions = [(d.room_id, d.position) for d in now]
        assert len(set(positions)) == len(positions)
        assert all(decision in now for decision in seen)
        seen = now
    _catch_up(log, connector(tables_url))
    lived = dump(tables_url)
    empty(tables_url)
    before = decisions_that_count(log)
    _catch_up(log, connector(tables_url))
    assert decisions_that_count(log) == before
    assert dump(tables_url) == lived


def test_an_owner_that_lost_its_row_writes_nothing(log: EmbeddedLog, tables_url: str) -> None:
    with running(log, connector(tables_url)) as loop:
        append(log, simple_facts(random.Random(9), 10))
        loop.catch_up()
        before = dump(tables_url)
        other = WriteConnection(tables_url, "g1")
        other.execute("UPDATE positions SET epoch = epoch + 1")
        other.close()
        append(log, simple_facts(random.Random(10), 10))
        with pytest.raises(FenceLost):
            loop.catch_up()
    assert dump(tables_url) == before


def test_late_decisions_of_an_old_owner_are_void(log: EmbeddedLog, tables_url: str) -> None:
    _, facts = traffic(random.Random(11), rooms=1, length=6)
    half = len(facts) // 2
    old = Loop(log, connector(tables_url), Settings("g1", SERVER_NAME, "old"))
    old.take()
    append(log, facts[:half])
    old.catch_up()
    with running(log, connector(tables_url), owner="new") as new:
        append(log, facts[half:])
        # The old one decides once more under its epoch, as if its fence had not been asked: behind the mark.
        late = [record for p in range(8) for record in log.read("decisions.g1", p, 0) if record.key != b"mark"]
        again = [record for record in late if record.value is not None][-1]
        log.append([Append(again.topic, again.partition, again.key, again.value)]).result()
        new.catch_up()
        lived = dump(tables_url)
    old.close()
    empty(tables_url)
    _catch_up(log, connector(tables_url))
    assert dump(tables_url) == lived


def test_the_last_one_started_owns_everything(log: EmbeddedLog, tables_url: str) -> None:
    append(log, simple_facts(random.Random(12), 5))
    first = Loop(log, connector(tables_url), Settings("g1", SERVER_NAME, "first"))
    first.take()
    with running(log, connector(tables_url), owner="second") as second:
        with pytest.raises(ConnectionLost):
            first.catch_up()
        first.close()
        with pytest.raises(Superseded):
            first.take()
        second.catch_up()
    first.close()


def test_a_newer_machine_is_not_overruled(log: EmbeddedLog, tables_url: str) -> None:
    with running(log, connector(tables_url)):
        pass
    connection = WriteConnection(tables_url, "g1")
    connection.execute("UPDATE positions SET decide_version = 999 WHERE partition = 3 AND group_name = 'rooms'")
    connection.close()
    with pytest.raises(NewerDecideVersion), running(log, connector(tables_url)):
        pass


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE positions SET log_id = 'another'",
        "UPDATE positions SET next_offset = next_offset + 1000 WHERE group_name = 'users' AND next_offset > 0",
        "UPDATE positions SET last_hash = 'x' WHERE group_name = 'users' AND next_offset > 0",
        "UPDATE positions SET decisions_offset = 1000 WHERE group_name = 'rooms' AND partition = 0",
    ],
)
def test_a_log_that_went_back_stops_with_instructions(log: EmbeddedLog, tables_url: str, damage: str) -> None:
    append(log, simple_facts(random.Random(13), 20))
    _catch_up(log, connector(tables_url))
    connection = WriteConnection(tables_url, "g1")
    assert connection.execute(damage)
    connection.close()
    before = dump(tables_url)
    with pytest.raises(LogWentBack, match="restore the log"):
        _catch_up(log, connector(tables_url))
    assert dump(tables_url) == before

"""docs/howto/add-a-projection.md is true: what it names exists, and a projection made by it works and is rebuilt."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, Table, Text
from sqlalchemy.schema import CreateTable

from annals.audit.row_diff import diff_rows
from annals.database.migrate import create_generation
from annals.database.pool import Database
from annals.database.write_connection import WriteConnection
from annals.eventlog.embedded import EmbeddedLog
from annals.projectors.columns import provenance
from annals.projectors.folding import At, NotLoaded, Overlay, Touch, UnknownFact
from annals.projectors.groups import GROUPS, Group
from annals.projectors.loop import Loop, Settings
from annals.projectors.metadata import METADATA
from annals.projectors.moved import Moved
from annals.projectors.projected import PROJECTED
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.ephemeral import TypingSet
from annals.schemas.topics import TOPICS
from tests.support.projectors import append, connector, envelope

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "add-a-projection.md").read_text(encoding="utf-8")

# The latest of a room who typed, and who did before.
TYPISTS = Table(
    "typists",
    MetaData(),
    Column("room_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("before", Text),
    *provenance(),
    info={"rebuild": "retained"},
)


class TypistsProjection:
    """As the page says."""

    def __init__(self, *, forgets_to_name_rows: bool = False) -> None:
        self._forgets = forgets_to_name_rows

    def touches(self, fact: Fact) -> Iterable[Touch]:
        if isinstance(fact, TypingSet) and not self._forgets:
            yield Touch(TYPISTS, (fact.room_id,))

    def fold(self, fact: Fact, at: At, rows: Overlay) -> None:
        if not isinstance(fact, TypingSet):
            raise UnknownFact(type(fact).__name__)
        last = rows.get(TYPISTS, fact.room_id)
        before = last["user_id"] if last else None
        row = {"room_id": fact.room_id, "user_id": fact.user_id, "before": before}
        rows.put(TYPISTS, {**row, **at.provenance()})

    def touches_of_key(self, key: bytes) -> Iterable[Touch]:
        return ()

    def tombstone(self, key: bytes, at: At, rows: Overlay) -> None:
        pass

    def moved(self, fact: Fact) -> Moved:
        return Moved(rooms={fact.room_id}) if isinstance(fact, TypingSet) else Moved()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z]+/[\w/.<>-]+)`", PAGE))))
def test_the_paths_exist(path: str) -> None:
    assert list(ROOT.glob(path.replace("<name>", "receipts").rstrip("/"))), path


def test_the_names_exist() -> None:
    where = {
        "annals.projectors.metadata": ["METADATA"],
        "annals.projectors.folding": ["Projection", "NotLoaded", "Overlay", "UnknownFact"],
        "annals.projectors.groups": ["Group", "GROUPS"],
        "tests.support.rebuild_check": ["assert_rebuild_equal"],
    }
    for module, names in where.items():
        for name in names:
            assert f"`{name}`" in PAGE
            assert hasattr(importlib.import_module(module), name)
    for file in ("__init__.py", "tables.py", "fold.py"):
        assert f"`{file}`" in PAGE
        assert all((ROOT / "projectors" / group / file).exists() for group in GROUPS)
    for method in ("touches", "fold", "touches_of_key", "tombstone", "moved"):
        assert f"`{method}`" in PAGE
        assert callable(getattr(TypistsProjection, method))


def test_its_rules_hold_for_what_is_there() -> None:
    """Every table says how it rebuilds, and no group shares a topic."""
    assert {table.info["rebuild"] for table in METADATA.sorted_tables} <= {
        "exact",
        "retained",
        "derived",
        "operational",
    }
    topics = [group.topic for group in GROUPS.values()]
    assert len(set(topics)) == len(topics)
    # Who waits for the tables knows them by name.
    assert tuple(topics) == PROJECTED
    assert all("projectors" in TOPICS[topic].readers for topic in topics)


@pytest.fixture
def made(tables_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The projection, added as the page says; the database's URL, with the table in g1 and g2."""
    create_generation(tables_url, "g2")
    for generation in ("g1", "g2"):
        connection = WriteConnection(tables_url, generation)
        connection.execute(str(CreateTable(TYPISTS)))
        connection.close()
    monkeypatch.setitem(GROUPS, "typists", Group("typists", "ephemeral", TypistsProjection()))
    return tables_url


def fold_all(log: EmbeddedLog, url: str, generation: str, records_max: int) -> None:
    settings = Settings(generation, "test", "somebody", groups=("typists",), records_max=records_max)
    loop = Loop(log, connector(url, generation), settings)
    try:
        loop.take()
        loop.catch_up()
        assert not loop.stopped
    finally:
        loop.close()


def test_it_follows_the_log_from_its_beginning_and_is_rebuilt_equal(log: EmbeddedLog, made: str) -> None:
    rooms, users = ("!a:test", "!b\x00:test"), ("@ann:test", "@bob:test", "@cat:test")
    append(log, [TypingSet(envelope(), rooms[n % 2], users[n % 3], 1_000) for n in range(7)])
    fold_all(log, made, "g1", 1_000)
    append(log, [TypingSet(envelope(), rooms[0], users[1], 1_000)])
    fold_all(log, made, "g1", 1_000)
    fold_all(log, made, "g2", 2)
    database = Database(made, threads=1)
    try:
        rows = database.read_now(
            lambda s: s.rows("SELECT room_id, user_id, before, source FROM typists ORDER BY source")
        )
        (diff,) = diff_rows(database, "g1", "g2", [TYPISTS])
    finally:
        database.close()
    assert [row[1:] for row in rows] == [("@cat:test", "@ann:test", 5), ("@bob:test", "@ann:test", 7)]
    assert (diff.equal, diff.rows) == (True, 2)


def test_a_fold_that_reads_what_it_did_not_name_stops(
    log: EmbeddedLog, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Group("typists", "ephemeral", TypistsProjection(forgets_to_name_rows=True))
    monkeypatch.setitem(GROUPS, "typists", wrong)
    append(log, [TypingSet(envelope(), "!a:test", "@ann:test", 1_000)])
    with pytest.raises(AssertionError, match=NotLoaded.__name__):
        fold_all(log, made, "g1", 10)

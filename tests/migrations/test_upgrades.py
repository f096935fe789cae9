"""Tables with data in them, as an older release wrote them, go up to what this release would have written.

Every file of tests/migrations/recorded is tried (`python -m tests.migrations.record` makes them); a revision that is
added is on the paths by itself.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from annals.database import migrate as migrate_module
from annals.database.migrate import migrate
from annals.eventlog.embedded import open_embedded
from annals.migrations.tables import all_tables
from annals.projectors.rebuild import replay
from tests.migrations.record import RECORDED, load_log, log_file
from tests.support.postgres import PostgresServer
from tests.support.projectors import SERVER_NAME
from tests.support.recorded_tables import Rows, connected, load_rows, rows_of
from tests.support.revision_chains import make_chain
from tests.support.soak import is_soak
from tests.support.upgrade_paths import Upgraded, assert_kept, declared, every_path, revisions_of, without

FILES = sorted(RECORDED.glob("*.copy"))
PROMISED = ("exact", "retained")


def schema_of_chain(chain: str) -> str:
    return "ops" if chain == "ops" else "g1"


@pytest.mark.parametrize("chain", migrate_module.CHAINS)
def test_there_is_data_of_the_first_revision(chain: str) -> None:
    assert RECORDED / f"{chain}-{revisions_of(chain)[0][0]}.copy" in FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_up_from_what_was_recorded(
    file: Path, postgres: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    chain, _, since = file.stem.partition("-")
    schema = schema_of_chain(chain)
    from_all = is_soak(request.config)
    with every_path(postgres, chain, schema, since, lambda url: load_rows(url, schema, file), from_all) as upgraded:
        assert all(upgraded.before.values()), "a table without rows shows nothing"
        after = rows_of(upgraded.url, schema)
        rebuilt: Rows = {}
        if chain == "generation":
            # A revision may leave to a replay what it cannot tell from the tables, and says so.
            lacking = declared(chain, "FILLED_BY_REPLAY", since)
            rebuilt = rebuilt_rows(upgraded, since, tmp_path)
            assert rebuilt
            assert_as_rebuilt(after, rebuilt, lacking)
        assert_kept(upgraded.before, after, declared(chain, "REWRITTEN", since), but=rebuilt.keys())


def rebuilt_rows(upgraded: Upgraded, since: str, folder: Path) -> Rows:
    """What a fold of the log, by this release, gives for the tables that promise equality."""
    migrate(upgraded.url)
    log = open_embedded(folder / "log")
    try:
        load_log(log, log_file(since))
        replay(log, upgraded.url, "g2", "fold", SERVER_NAME, source_generation="g1")
    finally:
        log.close()
    promised = {table.name for table in all_tables().sorted_tables if table.info["rebuild"] in PROMISED}
    return {table: rows for table, rows in rows_of(upgraded.url, "g2").items() if table in promised}


def assert_as_rebuilt(after: Rows, rebuilt: Rows, lacking: set[str]) -> None:
    for table in rebuilt.keys() - lacking:
        columns = {name.partition(".")[2] for name in lacking if name.startswith(f"{table}.")}
        assert without(after[table], columns) == without(rebuilt[table], columns), table


# The same on chains that were made up, so that it is known to find what it is there to find.

FIRST = "CREATE TABLE notes (n bigint PRIMARY KEY, text text, old text); CREATE TABLE tags (name text)"
DATA = "INSERT INTO g1.notes VALUES (1, 'anger'), (2, NULL); INSERT INTO g1.tags VALUES ('a')"
REWRITE = "UPDATE notes SET text = upper(text); ALTER TABLE notes DROP old"


def up(monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer, chain: Path) -> tuple[Rows, Rows]:
    monkeypatch.setitem(migrate_module.CHAINS, "generation", str(chain))

    def fill(url: str) -> None:
        with connected(url) as connection, connection.cursor() as cursor:
            cursor.execute(DATA)

    with every_path(postgres, "generation", "g1", "0001", fill) as upgraded:
        return upgraded.before, rows_of(upgraded.url, "g1")


def test_a_change_of_rows_is_found_unless_it_was_said(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "ALTER TABLE notes ADD length int; UPDATE notes SET length = length(text)"
    chain = make_chain(tmp_path / "chain", {"0001": FIRST, "0002": more, "0003": REWRITE})
    before, after = up(monkeypatch, postgres, chain)
    assert after["notes"] == [
        {"length": "5", "n": "1", "text": "ANGER"},
        {"length": None, "n": "2", "text": None},
    ]
    with pytest.raises(AssertionError, match="old"):
        assert_kept(before, after, {"notes.text"})
    with pytest.raises(AssertionError, match="notes does not hold what it held"):
        assert_kept(before, after, {"notes.old"})
    assert declared("generation", "REWRITTEN", "0001") == set()
    with (chain / "versions" / "r0003.py").open("a") as file:
        file.write("\nREWRITTEN = ('notes.text', 'notes.old')\n")
    assert declared("generation", "REWRITTEN", "0002") == {"notes.text", "notes.old"}
    assert declared("generation", "REWRITTEN", "0003") == set()
    assert_kept(before, after, declared("generation", "REWRITTEN", "0001"))


@pytest.mark.parametrize(
    ("loss", "said"),
    [("DROP TABLE tags", "tags is gone"), ("DELETE FROM notes WHERE text IS NULL", "notes does not hold")],
)
def test_lost_rows_are_found(
    loss: str, said: str, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = make_chain(tmp_path / "chain", {"0001": FIRST, "0002": loss})
    with pytest.raises(AssertionError, match=said):
        assert_kept(*up(monkeypatch, postgres, chain), set())


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("DO $$BEGIN IF EXISTS (SELECT FROM tags) THEN ALTER TABLE tags ADD more text; END IF; END$$", "difference"),
        ("ALTER TABLE notes ADD seen xid8 DEFAULT pg_current_xact_id()", "rows, from 0001"),
    ],
)
def test_paths_that_end_in_different_places_are_found(
    second: str, said: str, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = make_chain(tmp_path / "chain", {"0001": FIRST, "0002": second, "0003": "SELECT 1"})
    with pytest.raises(AssertionError, match=said):
        up(monkeypatch, postgres, chain)


def test_a_rebuild_that_differs_is_found() -> None:
    mine: Rows = {"notes": [{"n": "1", "text": "a"}]}
    other: Rows = {"notes": [{"n": "1", "text": "b"}]}
    with pytest.raises(AssertionError, match="notes"):
        assert_as_rebuilt(mine, other, set())
    assert_as_rebuilt(mine, other, {"notes.text"})
    assert_as_rebuilt(mine, other, {"notes"})

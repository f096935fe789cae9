"""Two linear chains, run to their heads, once, whatever happened before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from annals.database import migrate as migrate_module
from annals.database.chain_files import last_revision
from annals.database.errors import BadGenerationName, GenerationServes, StatementTimeout, UnsupportedServer
from annals.database.migrate import create_generation, drop_generation, generations, migrate
from annals.database.write_connection import WriteConnection
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer, database_name
from tests.support.revision_chains import make_chain, write_revision

CHAINS = ["generation", "ops"]


def script(chain: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", f"annals.migrations:{chain}")
    return ScriptDirectory.from_config(config)


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = WriteConnection(url)
    try:
        return connection.rows(sql)
    finally:
        connection.close()


def tables(url: str) -> list[tuple[Any, ...]]:
    return rows(
        url,
        "SELECT schemaname, tablename FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2",
    )


@pytest.fixture(scope="module")
def template(postgres: PostgresServer) -> str:
    """The name of a database that was migrated."""
    url = postgres.fresh_database("chains")
    migrate(url)
    return database_name(url)


@pytest.fixture
def migrated_url(postgres: PostgresServer, template: str) -> Iterator[str]:
    """A copy of it: that is done sooner than to migrate another one."""
    url = postgres.fresh_database("chained", template)
    yield url
    postgres.drop_database(url)


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_is_one_line(chain: str) -> None:
    directory = script(chain)
    assert len(directory.get_heads()) == 1
    assert len(directory.get_bases()) == 1
    revisions = list(directory.walk_revisions())
    assert all(not isinstance(revision.down_revision, tuple) for revision in revisions)
    assert len({revision.down_revision for revision in revisions}) == len(revisions)


@pytest.mark.parametrize("chain", CHAINS)
def test_every_revision_is_reached(chain: str, database_url: str) -> None:
    """Each step by itself, as a server that was upgraded release by release has run them."""
    directory = script(chain)
    schema = "ops" if chain == "ops" else "g1"
    connection = WriteConnection(database_url)
    connection.execute(f"CREATE SCHEMA {schema}")
    for revision in reversed(list(directory.walk_revisions())):
        migrate_module.upgrade(database_url, chain, schema, revision.revision)
        assert connection.one(f"SELECT version_num FROM {schema}.alembic_version") == (revision.revision,)
    connection.close()


def test_a_new_database_serves_the_first_generation(database_url: str) -> None:
    assert migrate(database_url) == "g1"
    assert rows(database_url, "SELECT generation FROM ops.serving") == [("g1",)]
    heads = {chain: script(chain).get_current_head() for chain in CHAINS}
    assert rows(database_url, "SELECT version_num FROM ops.alembic_version") == [(heads["ops"],)]
    assert rows(database_url, "SELECT version_num FROM g1.alembic_version") == [(heads["generation"],)]
    assert {schema for schema, _ in tables(database_url)} == {"g1", "ops"}


def test_again_changes_nothing(migrated_url: str) -> None:
    before = tables(migrated_url)
    assert migrate(migrated_url) == "g1"
    assert tables(migrated_url) == before


def test_several_starts_at_once_do_not_collide(database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(migrate, [database_url] * 4)) == ["g1"] * 4
    assert rows(database_url, "SELECT generation FROM ops.serving") == [("g1",)]


def test_a_run_that_was_cut_short_is_taken_up_again(migrated_url: str) -> None:
    whole = tables(migrated_url)
    connection = WriteConnection(migrated_url)
    # After `ops` and the schema, before the chain of the generation.
    connection.execute("DROP SCHEMA g1 CASCADE; CREATE SCHEMA g1; DELETE FROM ops.serving")
    connection.close()
    assert migrate(migrated_url) == "g1"
    assert tables(migrated_url) == whole
    assert rows(migrated_url, "SELECT generation FROM ops.serving") == [("g1",)]


def test_the_serving_generation_is_made_again_when_it_was_dropped(migrated_url: str) -> None:
    create_generation(migrated_url, "g2")
    connection = WriteConnection(migrated_url)
    connection.execute("UPDATE ops.serving SET generation = 'g2'")
    connection.execute("ALTER SCHEMA g2 RENAME TO aside")
    connection.close()
    assert migrate(migrated_url) == "g2"
    assert generations(migrated_url) == ["g1", "g2"]


def test_generations_stand_side_by_side(database_url: str) -> None:
    migrate(database_url)
    for name in ("g2", "g10"):
        create_generation(database_url, name)
        create_generation(database_url, name)
    assert generations(database_url) == ["g1", "g2", "g10"]
    names = {schema: [name for found, name in tables(database_url) if found == schema] for schema in ("g1", "g10")}
    assert names["g1"] == names["g10"]
    assert rows(database_url, "SELECT generation FROM ops.serving") == [("g1",)]
    drop_generation(database_url, "g2")
    drop_generation(database_url, "g2")
    assert generations(database_url) == ["g1", "g10"]


def test_the_serving_generation_is_not_dropped(migrated_url: str) -> None:
    with pytest.raises(GenerationServes):
        drop_generation(migrated_url, "g1")
    assert generations(migrated_url) == ["g1"]


@pytest.mark.parametrize("name", ["", "g0", "g01", "G1", "ops", "g1; DROP SCHEMA ops", "g1\n"])
def test_other_names_are_refused_before_any_sql(name: str) -> None:
    nowhere = "postgresql://annals@127.0.0.1:1/none"
    for use in (create_generation, drop_generation):
        with pytest.raises(BadGenerationName):
            use(nowhere, name)


def test_a_name_that_is_no_generation_is_refused(database_url: str) -> None:
    with pytest.raises(BadGenerationName):
        migrate(database_url, "public")


def test_an_old_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "OLDEST_SERVER", 990000)
    with pytest.raises(UnsupportedServer):
        migrate(database_url)
    assert tables(database_url) == []


def test_the_wait_for_others_is_bounded(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "_WAIT_FOR_OTHERS_MS", 50)
    with migrate_module._locked(database_url), pytest.raises(StatementTimeout):
        migrate(database_url)
    # A connection that was closed ends in its own time.
    monkeypatch.setattr(migrate_module, "_WAIT_FOR_OTHERS_MS", int(PATIENCE_S * 1000))
    assert migrate(database_url) == "g1"


def test_a_table_in_use_is_waited_for_so_long(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(migrate_module, "_PAUSES_S", ())
    holder = psycopg2.connect(migrated_url)
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE ops.alembic_version")
    with pytest.raises(StatementTimeout):
        migrate(migrated_url)
    holder.rollback()
    holder.close()
    assert migrate(migrated_url) == "g1"


def test_what_is_up_to_date_is_seen_without_alembic(migrated_url: str) -> None:
    code = (
        "import sys; from annals.database.migrate import create_generation, migrate; url = sys.argv[1];"
        " assert migrate(url) == 'g1'; create_generation(url, 'g1');"
        " assert not {'alembic', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, migrated_url], check=True)


@pytest.mark.parametrize("chain", CHAINS)
def test_names_of_files_say_what_alembic_says(chain: str) -> None:
    assert last_revision(migrate_module.CHAINS[chain]) == script(chain).get_current_head()


def test_names_that_say_nothing_are_left_to_alembic(tmp_path: Path) -> None:
    chain = make_chain(tmp_path / "chain", {"0001": "SELECT 1", "0002": "SELECT 2"})
    assert last_revision(str(chain)) == "0002"
    write_revision(chain, "later", "0002")
    assert last_revision(str(chain)) is None


def test_database_does_not_need_the_projections_to_be_imported() -> None:
    """Layers: only Alembic, by the path of the chain, reaches the projections."""
    code = "import sys, annals.database.migrate; assert not any(m.startswith('annals.projectors') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

"""A chain, gone up with data in it: step by step, and from revisions on the way to the last at one go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

from alembic.config import Config
from alembic.script import ScriptDirectory

from annals.database.migrate import CHAINS, upgrade
from tests.support.postgres import PostgresServer, database_name
from tests.support.recorded_tables import Rows, connected, rows_of, schema_of


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A database that went up step by step from `before`, its rows at the beginning."""

    url: str
    before: Rows


def revisions_of(chain: str) -> list[tuple[str, ModuleType]]:
    """The revisions of a chain and their modules, the first first."""
    config = Config()
    config.set_main_option("script_location", CHAINS[chain])
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    return [(script.revision, script.module) for script in scripts][::-1]


def declared(chain: str, name: str, since: str) -> set[str]:
    """What the revisions behind `since` declare under a name ("table" or "table.column" each)."""
    known = revisions_of(chain)
    start = [revision for revision, _ in known].index(since) + 1
    return {item for _, module in known[start:] for item in getattr(module, name, ())}


@contextmanager
def every_path(
    postgres: PostgresServer,
    chain: str,
    schema: str,
    since: str,
    fill: Callable[[str], None],
    from_all: bool = True,
) -> Iterator[Upgraded]:
    """Fill tables at revision `since` and take every path up. AssertionError where two end in different places.

    Not `from_all`: all at one go from the first revision and from the last but one only.
    """
    revisions = [revision for revision, _ in revisions_of(chain)]
    later = revisions[revisions.index(since) :]
    made: list[str] = []

    def copy_of(url: str, revision: str) -> str:
        made.append(postgres.fresh_database("upgrade", database_name(url)))
        upgrade(made[-1], chain, schema, revision)
        return made[-1]

    try:
        made.append(_empty(postgres, schema))
        upgrade(made[0], chain, schema, since)
        fill(made[0])
        steps = [made[0]]
        for _, after in pairwise(later):
            steps.append(copy_of(steps[-1], after))
        last = steps[-1]
        made.append(_empty(postgres, schema))
        upgrade(made[-1], chain, schema, "head")
        assert schema_of(made[-1], schema) == schema_of(last, schema), f"{chain}: rows make a difference to the tables"
        starts = list(zip(later, steps, strict=True))[:-1]
        for revision, url in starts if from_all else starts[:1] + starts[1:][-1:]:
            direct = copy_of(url, "head")
            assert schema_of(direct, schema) == schema_of(last, schema), f"{chain}: tables, from {revision}"
            assert rows_of(direct, schema) == rows_of(last, schema), f"{chain}: rows, from {revision}"
        yield Upgraded(last, rows_of(made[0], schema))
    finally:
        for url in made:
            postgres.drop_database(url)


def _empty(postgres: PostgresServer, schema: str) -> str:
    url = postgres.fresh_database("upgrade")
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {schema}")
    return url


def assert_kept(before: Rows, after: Rows, rewritten: Set[str], but: Set[str] = frozenset()) -> None:
    """Every row is there still, with what it held in every column that is; `but` these tables.

    `rewritten`: tables and table.columns of which a revision says that it changes what they hold, or drops them.
    """
    for table, rows in before.items():
        if table in rewritten or table in but:
            continue
        assert table in after, f"{table} is gone"
        lost = {column for row in rows for column in row} - {column for row in after[table] for column in row}
        aside = {name.partition(".")[2] for name in rewritten if name.startswith(f"{table}.")}
        assert lost <= aside, f"{table}: {lost} are gone"
        columns = {column for row in rows for column in row} - aside
        assert _only(after[table], columns) == _only(rows, columns), f"{table} does not hold what it held"


def _only(rows: list[dict[str, str | None]], columns: set[str]) -> list[tuple[str | None, ...]]:
    return sorted((tuple(row[column] for column in sorted(columns)) for row in rows), key=repr)


def without(rows: list[dict[str, str | None]], columns: set[str]) -> list[dict[str, str | None]]:
    """The rows without some columns, in one order."""
    kept = [{name: value for name, value in row.items() if name not in columns} for row in rows]
    return sorted(kept, key=repr)

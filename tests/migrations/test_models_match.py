"""The migrated schema is what the projections declare."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from annals.database.chain_runs import schema_engine
from annals.database.migrate import migrate
from annals.migrations.tables import all_tables


def differences(url: str, generation: str) -> list[object]:
    engine = schema_engine(url, generation)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            return list(compare_metadata(context, all_tables()))
    finally:
        engine.dispose()


def test_the_chain_makes_the_tables_that_the_projections_declare(database_url: str) -> None:
    migrate(database_url)
    assert differences(database_url, "g1") == []


def test_the_comparison_sees_a_difference(database_url: str) -> None:
    migrate(database_url)
    engine = schema_engine(database_url, "g1")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE undeclared (a bigint)")
    engine.dispose()
    assert len(differences(database_url, "g1")) == 1

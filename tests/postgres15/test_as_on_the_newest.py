"""What leans on PostgreSQL's own ways holds on the oldest one too: the very tests of other folders, on it.

`ANNALS_TEST_POSTGRES=15 pytest tests/database tests/projectors tests/migrations` runs all of them.
"""

from __future__ import annotations

from tests.database.test_copy_writer import (
    test_every_value_of_every_type_arrives,
    test_few_rows_of_several_tables_are_one_round_trip,
    test_keys_alone_are_upserted,
    test_many_inserts_are_one_copy,
    test_staging_is_emptied_when_it_holds_much,
    test_staging_is_made_again_after_a_rollback_took_it,
)
from tests.database.test_prepared import (
    database,
    test_a_lost_connection_is_told_as_one,
    test_a_prepared_read_follows_the_serving_generation,
    test_the_third_use_is_prepared_and_all_answer_alike,
)
from tests.database.test_write_connection import test_a_backend_that_is_ended_by_another_is_lost
from tests.migrations.test_chains import test_generations_stand_side_by_side
from tests.migrations.test_interrupted import (
    blocked_0002,
    chain,
    test_a_long_reader_is_named_and_nothing_is_lost,
)
from tests.migrations.test_models_match import test_the_chain_makes_the_tables_that_the_projections_declare
from tests.migrations.test_upgrades import test_up_from_what_was_recorded
from tests.projectors.test_crashes import (
    test_a_crash_while_deciding_decides_nothing_anew,
    test_an_owner_that_lost_its_row_writes_nothing,
)
from tests.support.recorded_tables import connected

__all__ = [
    "blocked_0002",
    "chain",
    "database",
    "test_a_backend_that_is_ended_by_another_is_lost",
    "test_a_crash_while_deciding_decides_nothing_anew",
    "test_a_long_reader_is_named_and_nothing_is_lost",
    "test_a_lost_connection_is_told_as_one",
    "test_a_prepared_read_follows_the_serving_generation",
    "test_an_owner_that_lost_its_row_writes_nothing",
    "test_every_value_of_every_type_arrives",
    "test_few_rows_of_several_tables_are_one_round_trip",
    "test_generations_stand_side_by_side",
    "test_keys_alone_are_upserted",
    "test_many_inserts_are_one_copy",
    "test_staging_is_emptied_when_it_holds_much",
    "test_staging_is_made_again_after_a_rollback_took_it",
    "test_the_chain_makes_the_tables_that_the_projections_declare",
    "test_the_third_use_is_prepared_and_all_answer_alike",
    "test_up_from_what_was_recorded",
]


def test_this_is_postgresql_15(database_url: str) -> None:
    with connected(database_url) as connection:
        assert connection.server_version // 10_000 == 15

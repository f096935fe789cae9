"""A database that has all tables, made once a run: a copy of it takes a tenth of the time that the migrations take.

def test_x(postgres: PostgresServer, tables_template: str) -> None:
    url = postgres.fresh_database("x", tables_template)
"""

from __future__ import annotations

import pytest

from annals.database.migrate import migrate
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def tables_template(postgres: PostgresServer) -> str:
    """Its name. It has schema `ops` and generation g1, which serves; nobody connects to it."""
    url = postgres.fresh_database("tables_template")
    migrate(url)
    return url.partition("?")[0].rpartition("/")[2]

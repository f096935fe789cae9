"""The tests of this folder run on PostgreSQL 15, the oldest that we support; they are those of other folders."""

from __future__ import annotations

import pytest

from tests.database.conftest import own_database, prepared, shared_url, url, writer
from tests.projectors.conftest import log, tables_url
from tests.support.postgres import PostgresServer, postgres15

__all__ = ["log", "own_database", "postgres15", "prepared", "shared_url", "tables_url", "url", "writer"]


@pytest.fixture(scope="session")
def postgres(postgres15: PostgresServer) -> PostgresServer:
    """In place of the one that other folders run on."""
    return postgres15

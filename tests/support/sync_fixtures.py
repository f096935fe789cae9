"""The fixture `world`: a migrated database, an embedded log, and rooms on both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from annals.eventlog.embedded import open_embedded
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.postgres import PostgresServer
from tests.support.sync_world import World, sync_world


@pytest.fixture(scope="session")
def queries_template(tables_template: str) -> str:
    """The name of a database that has all tables, to copy."""
    return tables_template


@pytest.fixture
def world(postgres: PostgresServer, queries_template: str, tmp_path: Path) -> Iterator[World]:
    """Rooms over a log and tables of their own."""
    url = postgres.fresh_database("queries", queries_template)
    log = open_embedded(tmp_path / "log")
    log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
    with sync_world(log, url) as made:
        yield made
    log.close()
    postgres.drop_database(url)

"""A migrated database and an embedded log for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from annals.database.migrate import migrate
from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """The name of a database that has all tables, to copy."""
    url = postgres.fresh_database("projectors_template")
    migrate(url, "g1")
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def tables_url(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A database with empty tables of generation g1."""
    url = postgres.fresh_database("projectors", migrated_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    """An empty log with all topics."""
    opened = open_embedded(tmp_path / "log")
    opened.ensure_topics([*TOPICS.values(), decisions_topic("g1"), decisions_topic("g2"), decisions_topic("g3")])
    yield opened
    opened.close()

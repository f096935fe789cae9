"""A migrated database and an embedded log for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from annals.eventlog.embedded import EmbeddedLog, open_embedded
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.postgres import PostgresServer
from tests.support.spare_tables import spare_tables


@pytest.fixture
def tables_url(postgres: PostgresServer) -> Iterator[str]:
    """A database with empty tables of generation g1."""
    with spare_tables(postgres).tables() as url:
        yield url


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    """An empty log with all topics."""
    opened = open_embedded(tmp_path / "log")
    opened.ensure_topics([*TOPICS.values(), decisions_topic("g1"), decisions_topic("g2"), decisions_topic("g3")])
    yield opened
    opened.close()

"""The fixture `world`: a migrated database, an embedded log, and rooms on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from annals.eventlog.embedded import open_embedded
from annals.schemas.topics import TOPICS, decisions_topic
from tests.support.postgres import PostgresServer
from tests.support.spare_tables import spare_tables
from tests.support.sync_world import World, sync_world


@pytest.fixture
def world(postgres: PostgresServer, tmp_path: Path) -> Iterator[World]:
    """Rooms over a log and tables of their own."""
    with spare_tables(postgres).tables() as url, closing(open_embedded(tmp_path / "log")) as log:
        log.ensure_topics([*TOPICS.values(), decisions_topic("g1")])
        with sync_world(log, url) as made:
            yield made

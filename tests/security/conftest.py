"""One running server for these tests; each brings people and rooms of its own."""

from __future__ import annotations

from tests.support.federation_fixtures import asked
from tests.support.gap_fixtures import gap_authority, play
from tests.support.shared_server import server
from tests.support.sync_fixtures import world

__all__ = ["asked", "gap_authority", "play", "server", "world"]

"""Rooms, and the app that other servers ask of them."""

from __future__ import annotations

from tests.support.accounts_fixtures import house, live, shared_house
from tests.support.federation_fixtures import asked
from tests.support.sync_fixtures import world

__all__ = ["asked", "house", "live", "shared_house", "world"]

from __future__ import annotations

from tests.support.gap_fixtures import gap_authority, gap_tables, play

__all__ = ["gap_authority", "gap_tables", "play"]

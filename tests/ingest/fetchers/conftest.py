from __future__ import annotations

from tests.support.gap_fixtures import gap_authority, play

__all__ = ["gap_authority", "play"]

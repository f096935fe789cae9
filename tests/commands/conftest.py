"""A small server for the tests of this folder."""

from __future__ import annotations

from tests.support.accounts_fixtures import house, live

__all__ = ["house", "live"]

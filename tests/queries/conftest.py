"""Rooms on tables and a log of their own for each test."""

from __future__ import annotations

from tests.support.sync_fixtures import world

__all__ = ["world"]

"""Rooms on tables and a log of their own for each test."""

from __future__ import annotations

from tests.support.sync_fixtures import queries_template, world

__all__ = ["queries_template", "world"]

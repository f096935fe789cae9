"""Alembic's entry to the chain of a generation's schema."""

from __future__ import annotations

from annals.migrations.environment import run
from annals.migrations.tables import all_tables

run(all_tables())

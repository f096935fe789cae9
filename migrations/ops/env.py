"""Alembic's entry to the chain of schema `ops`."""

from __future__ import annotations

from annals.migrations.environment import run

run(None)

"""Alembic's two linear chains: `generation` for the schema of a generation, `ops` for what outlives generations."""

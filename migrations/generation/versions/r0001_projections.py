"""The tables of the projections."""

from __future__ import annotations

from alembic import op

from annals.migrations.tables import all_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    all_tables().create_all(op.get_bind())

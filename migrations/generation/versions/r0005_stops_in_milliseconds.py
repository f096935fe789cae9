"""The end of a stop as a number, like every time in these tables."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE positions DROP COLUMN stop_until, ADD COLUMN stop_until_ms BIGINT")

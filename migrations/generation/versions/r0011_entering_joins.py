"""The join by which we came into a room is found by it."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute("CREATE INDEX events_entering ON events (room_id) WHERE missing IS NOT NULL AND verdict = 'accepted'")

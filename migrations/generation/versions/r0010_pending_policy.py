"""Events that wait for the answer of a policy server are found by it."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute("CREATE INDEX events_pending_policy ON events (room_id) WHERE verdict = 'pending_policy'")

"""What was answered to transactions of other servers: the same transaction gets the same answer."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ops.transactions (
            origin text NOT NULL,
            transaction_id text NOT NULL,
            -- The answer's body. Kept for a day.
            answer text NOT NULL,
            answered_at_ms bigint NOT NULL,
            PRIMARY KEY (origin, transaction_id)
        )
        """
    )
    op.execute("CREATE INDEX transactions_by_time ON ops.transactions (answered_at_ms)")

"""Other servers that we send to: how far each of them is, where it lags, and how long one that fails is left alone."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ops.destinations (
            server text PRIMARY KEY,
            -- By partition of `rooms` the stream position below which it has everything, as JSON; null: up to the
            -- cursor of the worker `egress`.
            vector text,
            -- It was away for long: of what it missed it gets the latest event of each room.
            catching_up boolean NOT NULL DEFAULT false,
            -- It took a transaction once.
            reached boolean NOT NULL DEFAULT false,
            -- Of one that fails: since when, the last wait, and when it is asked again.
            failing_since_ms bigint,
            interval_ms bigint,
            retry_at_ms bigint
        )
        """
    )

"""Which generation serves, who holds which lease, how far each worker has come."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ops.serving (
            -- One row: what a reader takes its tables from.
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            generation text NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE ops.leases (
            name text PRIMARY KEY,
            owner text NOT NULL,
            until_ms bigint NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE ops.cursors (
            worker text PRIMARY KEY,
            -- Topic and partition to the next stream position to do, as the worker packs it.
            vector text NOT NULL
        )
        """
    )

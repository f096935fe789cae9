"""A switch stops loops at a position; rooms that were rebuilt are found by where that happened."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Frozen: what a release has run is never edited. A change of a table is a revision behind this one.
STATEMENTS = (
    "ALTER TABLE positions ADD COLUMN stop_at BIGINT, ADD COLUMN stop_until TIMESTAMPTZ",
    """
    CREATE INDEX rooms_resumed ON rooms (partition, resumed_position) WHERE resumed_position IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

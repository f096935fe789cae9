"""The chain cover of rooms' auth graphs. What was decided before gets its places when it is next cited."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Frozen: what a release has run is never edited. A change of a table is a revision behind this one.
STATEMENTS = (
    """
    CREATE TABLE auth_chains (
        room_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        chain_id BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        type TEXT NOT NULL,
        state_key TEXT,
        PRIMARY KEY (room_id, event_id)
    )
    """,
    "CREATE UNIQUE INDEX auth_chains_by_place ON auth_chains (room_id, chain_id, sequence)",
    """
    CREATE TABLE auth_chain_links (
        room_id TEXT NOT NULL,
        to_chain_id BIGINT NOT NULL,
        chain_id BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        to_sequence BIGINT NOT NULL,
        PRIMARY KEY (room_id, to_chain_id, chain_id, sequence)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

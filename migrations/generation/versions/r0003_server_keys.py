"""Keys of other servers."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Frozen: what a release has run is never edited. A change of a table is a revision behind this one.
STATEMENTS = (
    """
    CREATE TABLE server_keys (
        server_name TEXT NOT NULL,
        key_id TEXT NOT NULL,
        public_key BYTEA NOT NULL,
        valid_until_ms BIGINT NOT NULL,
        is_current BOOLEAN NOT NULL,
        is_direct BOOLEAN NOT NULL,
        fetched_at_ms BIGINT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (server_name, key_id)
    )
    """,
    """
    CREATE TABLE server_key_answers (
        server_name TEXT NOT NULL,
        fetched_from TEXT NOT NULL,
        fetched_at_ms BIGINT NOT NULL,
        valid_until_ms BIGINT NOT NULL,
        answer BYTEA NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (server_name)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

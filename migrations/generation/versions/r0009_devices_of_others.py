"""Devices of users of other servers, and messages to devices of ours."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Frozen: what a release has run is never edited. A change of a table is a revision behind this one.
STATEMENTS = (
    """
    CREATE TABLE device_lists (
        user_id TEXT NOT NULL,
        device_id TEXT NOT NULL,
        stream_id BIGINT NOT NULL,
        prev_ids BIGINT[] NOT NULL,
        deleted BOOLEAN NOT NULL,
        display_name BYTEA,
        keys BYTEA,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id, device_id)
    )
    """,
    "CREATE INDEX device_lists_by_position ON device_lists (partition, position)",
    """
    CREATE TABLE device_lists_signing_keys (
        user_id TEXT NOT NULL,
        master_key BYTEA,
        self_signing_key BYTEA,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id)
    )
    """,
    """
    CREATE TABLE to_device (
        user_id TEXT NOT NULL,
        device_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        sender TEXT NOT NULL,
        type TEXT NOT NULL,
        content BYTEA NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id, device_id, message_id)
    )
    """,
    "CREATE INDEX to_device_by_position ON to_device (user_id, device_id, position)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

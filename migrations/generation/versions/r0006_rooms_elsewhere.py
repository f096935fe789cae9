"""Handshakes with other servers, the state that they tell us, and what we know of rooms that we are not in."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Frozen: what a release has run is never edited. A change of a table is a revision behind this one.
STATEMENTS = (
    """
    CREATE TABLE handshakes (
        room_id TEXT NOT NULL,
        handshake_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        user_id TEXT NOT NULL,
        servers TEXT[] NOT NULL,
        content TEXT,
        attached_to TEXT,
        holds_queue BOOLEAN NOT NULL,
        outcome TEXT,
        http_status INTEGER,
        errcode TEXT,
        reason TEXT,
        event_id TEXT,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, handshake_id)
    )
    """,
    "CREATE INDEX handshakes_open ON handshakes (room_id) WHERE outcome IS NULL",
    """
    CREATE TABLE queued_facts (
        room_id TEXT NOT NULL,
        source BIGINT NOT NULL,
        partition SMALLINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, source)
    )
    """,
    """
    CREATE TABLE state_sets (
        room_id TEXT NOT NULL,
        set_id TEXT NOT NULL,
        role TEXT NOT NULL,
        event_id TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, set_id, role, event_id)
    )
    """,
    """
    CREATE TABLE room_previews (
        room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        room_state TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, user_id)
    )
    """,
    "CREATE INDEX room_previews_by_user ON room_previews (user_id, room_id)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

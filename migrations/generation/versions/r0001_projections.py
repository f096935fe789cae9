"""The tables of the projections."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Frozen: what a release has run is never edited. A change of a table is a revision behind this one.
STATEMENTS = (
    """
    CREATE TABLE access_tokens (
        token_hash BYTEA NOT NULL,
        user_id TEXT NOT NULL,
        device_id TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (token_hash)
    )
    """,
    """
    CREATE TABLE account_data (
        user_id TEXT NOT NULL,
        room_id TEXT NOT NULL,
        type TEXT NOT NULL,
        content BYTEA NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id, room_id, type)
    )
    """,
    "CREATE INDEX account_data_by_position ON account_data (user_id, position)",
    """
    CREATE TABLE accounts (
        user_id TEXT NOT NULL,
        password_hash BYTEA,
        admin BOOLEAN NOT NULL,
        registered_at_ms BIGINT NOT NULL,
        deactivated BOOLEAN NOT NULL,
        idempotency_key TEXT,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id)
    )
    """,
    """
    CREATE TABLE aliases (
        alias TEXT NOT NULL,
        room_id TEXT NOT NULL,
        creator TEXT NOT NULL,
        idempotency_key TEXT,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (alias)
    )
    """,
    "CREATE INDEX aliases_by_room ON aliases (room_id)",
    """
    CREATE TABLE commands (
        user_id TEXT NOT NULL,
        command_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        plan BYTEA NOT NULL,
        state TEXT NOT NULL,
        reason TEXT,
        idempotency_key TEXT,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id, command_id)
    )
    """,
    "CREATE INDEX commands_by_key ON commands (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE INDEX commands_started ON commands (source) WHERE state = 'started'",
    """
    CREATE TABLE current_state (
        room_id TEXT NOT NULL,
        type TEXT NOT NULL,
        state_key TEXT NOT NULL,
        event_id TEXT NOT NULL,
        membership TEXT,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, type, state_key)
    )
    """,
    """
    CREATE TABLE current_state_deltas (
        room_id TEXT NOT NULL,
        position BIGINT NOT NULL,
        ordinal INTEGER NOT NULL,
        type TEXT NOT NULL,
        state_key TEXT NOT NULL,
        event_id TEXT,
        previous_event_id TEXT,
        membership TEXT,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        PRIMARY KEY (room_id, position, ordinal)
    )
    """,
    "CREATE INDEX current_state_deltas_by_key ON current_state_deltas (room_id, type, state_key, position)",
    "CREATE INDEX current_state_deltas_by_partition ON current_state_deltas (partition, position)",
    """
    CREATE TABLE devices (
        user_id TEXT NOT NULL,
        device_id TEXT NOT NULL,
        token_hash BYTEA NOT NULL,
        display_name BYTEA,
        logged_in_at_ms BIGINT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id, device_id)
    )
    """,
    """
    CREATE TABLE duplicates (
        room_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        first_event_id TEXT NOT NULL,
        first_source BIGINT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, event_id)
    )
    """,
    """
    CREATE TABLE events (
        room_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        room_version TEXT NOT NULL,
        type TEXT NOT NULL,
        state_key TEXT,
        sender TEXT NOT NULL,
        depth BIGINT NOT NULL,
        origin_server_ts BIGINT NOT NULL,
        verdict TEXT NOT NULL,
        rule TEXT,
        reason TEXT,
        outlier BOOLEAN NOT NULL,
        backfilled BOOLEAN NOT NULL,
        provisional BOOLEAN NOT NULL,
        state_before BIGINT,
        state_after BIGINT,
        prev_events TEXT[] NOT NULL,
        auth_events TEXT[] NOT NULL,
        missing TEXT[],
        client_json TEXT NOT NULL,
        federation_json TEXT NOT NULL,
        membership TEXT,
        redacts TEXT,
        redacted_by TEXT,
        replaces TEXT,
        relates_to TEXT,
        idempotency_key TEXT,
        PRIMARY KEY (room_id, event_id)
    )
    """,
    "CREATE INDEX events_by_depth ON events (room_id, depth, position)",
    "CREATE INDEX events_by_key ON events (room_id, idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE INDEX events_by_partition ON events (partition, position)",
    "CREATE INDEX events_by_position ON events (room_id, position)",
    "CREATE INDEX events_parked ON events (room_id) WHERE verdict = 'parked'",
    "CREATE INDEX events_related ON events (room_id, relates_to) WHERE relates_to IS NOT NULL",
    """
    CREATE TABLE filters (
        user_id TEXT NOT NULL,
        filter_id TEXT NOT NULL,
        definition TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id, filter_id)
    )
    """,
    """
    CREATE TABLE forward_extremities (
        room_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, event_id)
    )
    """,
    """
    CREATE TABLE halted_rooms (
        room_id TEXT NOT NULL,
        error TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id)
    )
    """,
    """
    CREATE TABLE local_current_membership (
        room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        membership TEXT NOT NULL,
        forgotten BOOLEAN NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, user_id)
    )
    """,
    "CREATE INDEX local_current_membership_by_user ON local_current_membership (user_id, room_id)",
    """
    CREATE TABLE operations (
        "offset" BIGSERIAL NOT NULL,
        kind TEXT NOT NULL,
        recorded_at_ms BIGINT NOT NULL,
        writer TEXT NOT NULL,
        details TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY ("offset")
    )
    """,
    """
    CREATE TABLE pending_redactions (
        room_id TEXT NOT NULL,
        redacts TEXT NOT NULL,
        event_id TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, redacts, event_id)
    )
    """,
    """
    CREATE TABLE positions (
        group_name TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        log_id TEXT NOT NULL,
        next_offset BIGINT NOT NULL,
        epoch BIGINT NOT NULL,
        decisions_offset BIGINT NOT NULL,
        marked_epoch BIGINT NOT NULL,
        decide_version INTEGER NOT NULL,
        owner TEXT,
        pid INTEGER,
        backend_start TEXT,
        last_hash BYTEA,
        PRIMARY KEY (group_name, topic, partition)
    )
    """,
    """
    CREATE TABLE profiles (
        user_id TEXT NOT NULL,
        field TEXT NOT NULL,
        value BYTEA NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id, field)
    )
    """,
    """
    CREATE TABLE published_rooms (
        room_id TEXT NOT NULL,
        published_by TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id)
    )
    """,
    """
    CREATE TABLE receipts (
        room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        receipt_type TEXT NOT NULL,
        thread_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        ts_ms BIGINT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, user_id, receipt_type, thread_id)
    )
    """,
    "CREATE INDEX receipts_by_position ON receipts (room_id, position)",
    """
    CREATE TABLE room_memberships (
        room_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        sender TEXT NOT NULL,
        membership TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, event_id)
    )
    """,
    "CREATE INDEX room_memberships_by_user ON room_memberships (user_id, room_id, position)",
    """
    CREATE TABLE rooms (
        room_id TEXT NOT NULL,
        room_version TEXT NOT NULL,
        create_event_id TEXT NOT NULL,
        creator TEXT NOT NULL,
        current_state_id BIGINT,
        current_fingerprint BYTEA,
        min_depth BIGINT,
        resumed_position BIGINT,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id)
    )
    """,
    """
    CREATE TABLE state_deltas (
        room_id TEXT NOT NULL,
        state_id BIGINT NOT NULL,
        type TEXT NOT NULL,
        state_key TEXT NOT NULL,
        event_id TEXT,
        PRIMARY KEY (room_id, state_id, type, state_key)
    )
    """,
    """
    CREATE TABLE states (
        room_id TEXT NOT NULL,
        state_id BIGINT NOT NULL,
        base_id BIGINT,
        depth BIGINT NOT NULL,
        element_sum BYTEA NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, state_id)
    )
    """,
    """
    CREATE TABLE subject_keys (
        user_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        nonce BYTEA NOT NULL,
        wrapped_key BYTEA NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (user_id)
    )
    """,
    """
    CREATE TABLE waiting_facts (
        room_id TEXT NOT NULL,
        source BIGINT NOT NULL,
        partition SMALLINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, source)
    )
    """,
    """
    CREATE TABLE wanted (
        room_id TEXT NOT NULL,
        event_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        wanted_by TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, event_id)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

"""Tokens by which users show other services who they are. No truth of the log: they live for an hour."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ops.openid_tokens (
            -- SHA-256; the token itself is kept nowhere.
            token_hash bytea PRIMARY KEY,
            user_id text NOT NULL,
            until_ms bigint NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX openid_tokens_by_time ON ops.openid_tokens (until_ms)")

"""The rooms that a server is in, found by the server."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Some seconds for a million members; who writes waits for it.
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(
        """
        CREATE INDEX current_state_joined_by_server
        ON current_state (substr(state_key, strpos(state_key, ':') + 1), room_id)
        WHERE type = 'm.room.member' AND membership = 'join'
        """
    )

"""Other servers ask for events by their ids alone, and for what is nearest to a moment."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    # Looked up by equality only: a hash index is a third of the size of a tree of ids that are random.
    op.execute("CREATE INDEX events_by_id ON events USING hash (event_id)")
    op.execute(
        "CREATE INDEX events_by_time ON events (room_id, origin_server_ts) WHERE verdict = 'accepted' AND NOT outlier"
    )

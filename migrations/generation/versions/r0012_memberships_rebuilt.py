"""Users whose own membership a switch of generations changed are found by it."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# Facts from before this revision name no users: the table is empty for them.
STATEMENTS = (
    """
    CREATE TABLE memberships_rebuilt (
        room_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        partition SMALLINT NOT NULL,
        source BIGINT NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (room_id, user_id)
    )
    """,
    "CREATE INDEX memberships_rebuilt_by_user ON memberships_rebuilt (user_id, partition, position)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

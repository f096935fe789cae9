"""Who has another membership by a switch: kept with the switch, as its facts may be written by whoever finishes it."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ops.switched_memberships (
            switch text NOT NULL,
            room_id text NOT NULL,
            -- A user of this server, who is told what became of them in the room.
            user_id text NOT NULL,
            PRIMARY KEY (switch, room_id, user_id)
        )
        """
    )

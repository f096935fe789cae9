"""What is below an event in the auth graph is found by the links of its chain."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute("CREATE INDEX auth_chain_links_by_chain ON auth_chain_links (room_id, chain_id, sequence)")

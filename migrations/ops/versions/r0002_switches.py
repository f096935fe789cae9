"""Generations that are followed beside the one that serves, what diffs named, and switches."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE ops.followed (
            -- Projected live, whether or not it serves.
            generation text PRIMARY KEY
        )
        """
    )
    op.execute(
        """
        CREATE TABLE ops.row_diffs (
            -- The last comparison row for row of two generations, by name: the rooms whose rows differ.
            one text NOT NULL,
            other text NOT NULL,
            rooms text[] NOT NULL,
            PRIMARY KEY (one, other)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE ops.switches (
            switch text PRIMARY KEY,
            generation text NOT NULL,
            previous text NOT NULL,
            -- [[topic, partition, next offset], ...] as JSON: both generations stood exactly there.
            vector text NOT NULL,
            -- The rooms that have to be told anew.
            rooms text[] NOT NULL,
            actor text NOT NULL,
            reason text NOT NULL,
            -- Whether all of them have their fact.
            finished boolean NOT NULL DEFAULT false
        )
        """
    )

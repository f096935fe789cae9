"""The table of the to_device group."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Table, Text

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

# What devices of our users have not acknowledged yet. content: packed JSON.
TO_DEVICE = Table(
    "to_device",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("sender", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    *provenance(),
    Index("to_device_by_position", "user_id", "device_id", "position"),
    info={"rebuild": "retained"},
)

"""The table of the receipts group."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

# thread_id '' for an unthreaded receipt.
RECEIPTS = Table(
    "receipts",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("receipt_type", Text, primary_key=True),
    Column("thread_id", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    *provenance(),
    Index("receipts_by_position", "room_id", "position"),
    info={"rebuild": "retained"},
)

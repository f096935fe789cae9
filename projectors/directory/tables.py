"""Tables of the directory group."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

# The first claim of a free alias made the row: `source` is its offset, which tells a caller who won.
ALIASES = Table(
    "aliases",
    METADATA,
    Column("alias", Text, primary_key=True),
    Column("room_id", Text, nullable=False),
    Column("creator", Text, nullable=False),
    Column("idempotency_key", Text),
    *provenance(),
    Index("aliases_by_room", "room_id"),
    info={"rebuild": "exact"},
)

PUBLISHED_ROOMS = Table(
    "published_rooms",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("published_by", Text, nullable=False),
    *provenance(),
    info={"rebuild": "exact"},
)

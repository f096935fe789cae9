"""The table of the operations group."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

# details: the fact's own fields as JSON.
OPERATIONS = Table(
    "operations",
    METADATA,
    Column("offset", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("recorded_at_ms", BigInteger, nullable=False),
    Column("writer", Text, nullable=False),
    Column("details", Text, nullable=False),
    *provenance(),
    info={"rebuild": "exact"},
)

"""The table of the subject keys group."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, Table, Text

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

SUBJECT_KEYS = Table(
    "subject_keys",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    *provenance(),
    info={"rebuild": "retained"},
)

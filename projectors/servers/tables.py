"""Tables of the servers group."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, Table, Text

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

# Every key of every server, as far as it may be believed. `source` is the answer that gave what stands here.
SERVER_KEYS = Table(
    "server_keys",
    METADATA,
    Column("server_name", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("valid_until_ms", BigInteger, nullable=False),
    Column("is_current", Boolean, nullable=False),
    Column("is_direct", Boolean, nullable=False),
    Column("fetched_at_ms", BigInteger, nullable=False),
    *provenance(),
    info={"rebuild": "exact"},
)

# The last answer about each server: what we say of it as a notary.
SERVER_KEY_ANSWERS = Table(
    "server_key_answers",
    METADATA,
    Column("server_name", Text, primary_key=True),
    Column("fetched_from", Text, nullable=False),
    Column("fetched_at_ms", BigInteger, nullable=False),
    Column("valid_until_ms", BigInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    *provenance(),
    info={"rebuild": "exact"},
)

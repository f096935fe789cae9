"""The position row: effect and position are written in one transaction, so this row says what the tables hold."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, SmallInteger, Table, Text

from annals.projectors.metadata import METADATA

# next_offset       facts below it are in the tables: the next one to read
# epoch             of the owner; only who knows it may move the row
# decisions_offset  decisions below it are in the tables (some above it may be: readers skip positions they have seen)
# marked_epoch      the highest mark on the decisions topic below decisions_offset
# pid, backend_start   the backend of the owner's connection, to be ended by who takes the partition
# stop_at           before stop_until_ms (by PostgreSQL's clock) the position goes no further (annals.projectors.stops)
# last_hash         SHA-256 of the record before next_offset, where the topic is kept for ever
POSITIONS = Table(
    "positions",
    METADATA,
    Column("group_name", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", SmallInteger, primary_key=True),
    Column("log_id", Text, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("decisions_offset", BigInteger, nullable=False),
    Column("marked_epoch", BigInteger, nullable=False),
    Column("decide_version", Integer, nullable=False),
    Column("owner", Text),
    Column("pid", Integer),
    Column("backend_start", Text),
    Column("last_hash", LargeBinary),
    Column("stop_at", BigInteger),
    Column("stop_until_ms", BigInteger),
    info={"rebuild": "operational"},
)

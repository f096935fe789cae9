"""Tables for the tests of database/, with every type that projections use."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Double, LargeBinary, MetaData, SmallInteger, Table, Text

from annals.database.chain_runs import schema_engine

METADATA = MetaData()

EVERY_TYPE = Table(
    "every_type",
    METADATA,
    Column("room", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("small", SmallInteger),
    Column("flag", Boolean),
    Column("data", LargeBinary),
    Column("texts", ARRAY(Text)),
    Column("numbers", ARRAY(BigInteger)),
    Column("blobs", ARRAY(LargeBinary)),
    Column("ratio", Double),
    # A reserved word, and a quote.
    Column("user", Text),
    Column('odd"name', Text),
)
KEYS_ONLY = Table("keys_only", METADATA, Column("name", Text, primary_key=True))


def create_tables(url: str, schema: str) -> None:
    """Make the tables in a schema."""
    engine = schema_engine(url, schema)
    METADATA.create_all(engine)
    engine.dispose()

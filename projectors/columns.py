"""Columns that many tables share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, SmallInteger


def provenance() -> tuple[Column[Any], ...]:
    """Where a row comes from: `partition` of its topic, `source` the offset of the fact that it is about, `position`
    the packed stream position of the effect that wrote it last."""
    return (
        Column("partition", SmallInteger, nullable=False),
        Column("source", BigInteger, nullable=False),
        Column("position", BigInteger, nullable=False),
    )

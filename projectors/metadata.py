"""The tables of every projection, in one place for the migrations."""

from __future__ import annotations

from sqlalchemy import MetaData

METADATA = MetaData()

"""Names of generations: the PostgreSQL schemas g1, g2, ... that hold the projections."""

from __future__ import annotations

import re

from annals.database.errors import BadGenerationName

FIRST_GENERATION = "g1"
_NAME = re.compile(r"g[1-9][0-9]{0,8}\Z")


def checked_generation(name: str) -> str:
    """The name itself, which may then stand in SQL unquoted; BadGenerationName otherwise."""
    if not _NAME.match(name):
        raise BadGenerationName(f"{name!r} is not the name of a generation (g1, g2, ...)")
    return name

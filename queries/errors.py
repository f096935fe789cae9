"""What a query raises besides its answers."""

from __future__ import annotations

from annals.database.errors import NotMigrated, Unavailable


class NotYet(Exception):
    """The tables have not reached what the request names."""


#: The database cannot answer now: 503, and the same request may succeed in a moment.
NOT_NOW: tuple[type[Exception], ...] = (Unavailable, NotMigrated, NotYet)

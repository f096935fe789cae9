"""What a query raises besides its answers."""

from __future__ import annotations

from annals.database.errors import NotMigrated, Unavailable


class NotYet(Exception):
    """The tables have not reached what the request names."""


class NoAccess(Exception):
    """The user neither is nor was in the room, or there is no such room: nobody learns which."""


class NotThere(Exception):
    """There is no such thing in the room, or none that the user may see."""


class BadPlace(ValueError):
    """A token that names no place in this server's rooms."""


#: The database cannot answer now: 503, and the same request may succeed in a moment.
NOT_NOW: tuple[type[Exception], ...] = (Unavailable, NotMigrated, NotYet)

"""Saying that a user types: a record that is gone in minutes, and in no table."""

from __future__ import annotations

from annals.commands.errors import Refused
from annals.commands.memberships import require_joined
from annals.database.pool import Database
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.ephemeral import TypingSet

#: No client types for longer without saying so again.
TIMEOUT_MS_MAX = 120_000
TIMEOUT_MS_DEFAULT = 30_000


class TypingNotices:
    """Commands on who types."""

    def __init__(self, appender: Appender, database: Database) -> None:
        self._appender, self._database = appender, database

    async def set(self, user_id: str, room_id: str, timeout_ms: int, cause: str | None = None) -> None:
        """The user types for so long (0: no more). Refused: M_FORBIDDEN for who is not in the room."""
        await self._database.read(lambda snapshot: require_joined(snapshot, room_id, user_id))
        if timeout_ms < 0:
            raise Refused(400, "M_INVALID_PARAM", "timeout must not be negative")
        until_ms = self._appender.clock() + min(timeout_ms, TIMEOUT_MS_MAX) if timeout_ms else 0
        await self._appender.submit([TypingSet(self._appender.envelope(cause), room_id, user_id, until_ms)])

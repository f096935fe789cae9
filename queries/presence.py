"""GET /presence/{userId}/status: who may see whose presence."""

from __future__ import annotations

from typing import Any, Protocol

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.matrix.presence import OFFLINE, Presence
from annals.queries.errors import NoAccess

_SHARES_SQL = """
    SELECT 1 FROM local_current_membership mine
    JOIN current_state cs ON cs.room_id = mine.room_id AND cs.type = 'm.room.member' AND cs.state_key = %s
    WHERE mine.user_id = %s AND mine.membership = 'join' AND cs.membership = 'join' LIMIT 1
"""


class Heard(Protocol):
    """What this process has heard of users' presence."""

    def of(self, user_id: str) -> Presence: ...


class PresenceReads:
    """`heard` None: presence is switched off, and everybody offline."""

    def __init__(self, database: Database, heard: Heard | None) -> None:
        self._database, self._heard = database, heard

    async def status(self, viewer_id: str, user_id: str, now_ms: int) -> dict[str, Any]:
        """The presence of a user who shares a room with the viewer; NoAccess for any other, there or not."""

        def shares(snapshot: Snapshot) -> bool:
            return snapshot.one(_SHARES_SQL, (user_id, viewer_id)) is not None

        if viewer_id != user_id and not await self._database.read(shares):
            raise NoAccess(user_id)
        return {"presence": OFFLINE} if self._heard is None else self._heard.of(user_id).content(now_ms)

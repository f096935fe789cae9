"""Which rooms were asked about, for an hour: rows of `ops.leases`, which every process and the next start finds."""

from __future__ import annotations

from dataclasses import dataclass

from annals.database.pool import Database
from annals.database.statements import Statements
from annals.database.text import storable

ASKED_FOR_MS = 3600 * 1000
#: A question that its process did not live to end may be asked again after this.
UNDER_WAY_MS = 15 * 60 * 1000
#: Rooms an hour: of one server, and of all together.
OF_A_SERVER_MAX, ROOMS_MAX = 200, 20_000

_PREFIX = "membership/"
_EXPIRE_SQL = "DELETE FROM ops.leases WHERE name LIKE 'membership/%%' AND until_ms <= %s"
_COUNT_SQL = """
    SELECT count(*), count(*) FILTER (WHERE owner = %s) FROM ops.leases WHERE name LIKE 'membership/%%'
"""
# Not renewed by its owner, as other leases are: the same server sends twice too.
_CLAIM_SQL = """
    INSERT INTO ops.leases (name, owner, until_ms) VALUES (%s, %s, %s) ON CONFLICT (name) DO NOTHING
"""
_KEEP_SQL = "UPDATE ops.leases SET until_ms = %s WHERE name = %s AND owner = %s"


@dataclass(frozen=True, slots=True)
class Claims:
    """The right to ask about a room, given once an hour."""

    database: Database

    async def claim(self, room_id: str, server: str, now_ms: int) -> bool:
        """Whether the room may be asked about now: nobody has in the last hour, and the server named few others."""
        return await self.database.write(lambda statements: _claim(statements, room_id, server, now_ms))

    async def answered(self, room_id: str, server: str, now_ms: int) -> None:
        """The question has its answer: no other one for an hour."""
        params = (now_ms + ASKED_FOR_MS, _PREFIX + storable(room_id), server)
        await self.database.write(lambda statements: statements.execute(_KEEP_SQL, params))


def _claim(statements: Statements, room_id: str, server: str, now_ms: int) -> bool:
    statements.execute(_EXPIRE_SQL, (now_ms,))
    row = statements.one(_COUNT_SQL, (server,))
    if row is None or row[0] >= ROOMS_MAX or row[1] >= OF_A_SERVER_MAX:
        return False
    params = (_PREFIX + storable(room_id), server, now_ms + UNDER_WAY_MS)
    return statements.execute(_CLAIM_SQL, params) == 1

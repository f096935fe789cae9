"""Whose an OpenID token is."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from annals.database.pool import Database
from annals.database.text import restore

_OWNER_SQL = """
    SELECT t.user_id FROM ops.openid_tokens t JOIN accounts a ON a.user_id = t.user_id AND NOT a.deactivated
    WHERE t.token_hash = %s AND t.until_ms > %s
"""


class OpenIdReads:
    """Queries on OpenID tokens."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database, self._now_ms = database, now_ms

    async def owner(self, token: str) -> str | None:
        """The user that the token was given to; None for a token that is over, or none of ours."""
        hashed = sha256(token.encode("utf-8", "surrogatepass")).digest()
        row = await self._database.read(lambda snapshot: snapshot.one(_OWNER_SQL, (hashed, self._now_ms())))
        return None if row is None else restore(row[0])

"""Tokens by which a user shows another service who they are (client-server API, "OpenID").

They are no facts: nobody needs to know tomorrow that a token was given for an hour today. `ops.openid_tokens` has their
hashes.
"""

from __future__ import annotations

from collections.abc import Callable

from annals.commands.tokens import new_token, token_hash
from annals.database.pool import Database
from annals.database.statements import Statements

VALID_FOR_S = 3_600

_GIVE_SQL = "INSERT INTO ops.openid_tokens (token_hash, user_id, until_ms) VALUES (%s, %s, %s)"
_FORGET_SQL = "DELETE FROM ops.openid_tokens WHERE until_ms <= %s"


class OpenIdTokens:
    """Gives out tokens."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._database, self._now_ms = database, now_ms

    async def give(self, user_id: str) -> str:
        """A token for the user, valid for VALID_FOR_S; those that are over are forgotten."""
        token, now_ms = new_token(), self._now_ms()

        def write(statements: Statements) -> None:
            statements.execute(_FORGET_SQL, (now_ms,))
            statements.execute(_GIVE_SQL, (token_hash(token), user_id, now_ms + VALID_FOR_S * 1_000))

        await self._database.write(write)
        return token

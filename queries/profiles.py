"""Profiles of our users."""

from __future__ import annotations

import json
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.plain import plain

_ACCOUNT_SQL = "SELECT deactivated FROM accounts WHERE user_id = %s"
_PROFILE_SQL = "SELECT field, value FROM profiles WHERE user_id = %s"


class ProfileReads:
    """Queries on profiles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def profile(self, user_id: str) -> dict[str, Any] | None:
        """All fields of a user's profile, by name; None where there is no such user (any more)."""

        def read(snapshot: Snapshot) -> dict[str, Any] | None:
            account = snapshot.one(_ACCOUNT_SQL, (user_id,))
            if account is None or account[0]:
                return None
            rows = snapshot.rows(_PROFILE_SQL, (user_id,))
            return {restore(field): json.loads(plain(value)) for field, value in rows}

        return await self._database.read(read)

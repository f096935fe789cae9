"""What member events show of users of ours: read before an event is made of it, looked at again once it is decided.

    profile read ─▶ join ─▶ decided ─▶ look: is it the same still? ── no ─▶ CommandStarted: shown anew (profile_fan_out)

Who changes a profile meanwhile lists the rooms of its user once the tables have the change. Either that list has the
room, or the look comes after the change: whatever the order, the room ends with the newest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from annals.commands.profiles import MEMBER_FIELDS, fan_out
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.projectors.positions.appending import Appender
from annals.projectors.sealables import unpacked
from annals.schemas.facts.envelope import Sealed

_PROFILES_SQL = "SELECT user_id, field, value FROM profiles WHERE user_id = ANY(%s) AND field = ANY(%s)"


class Showing:
    """Reads profiles for member events."""

    def __init__(self, appender: Appender, database: Database) -> None:
        self._appender, self._database = appender, database

    async def profiles(self, user_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """As `member_profiles`, of now."""
        return await self._database.read(lambda snapshot: member_profiles(snapshot, user_ids))

    async def look_after(self, room_id: str, user_id: str, shown: Mapping[str, Any], cause: str) -> None:
        """The user is in the room, by an event that shows this; have it shown anew if the profile has changed."""
        now = (await self.profiles([user_id])).get(user_id, {})
        if not show_the_same(now, shown):
            await self._appender.submit([fan_out(self._appender.envelope(cause), user_id, [room_id])])


def member_profiles(snapshot: Snapshot, user_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What member events show of these users, by user id: None for what is sealed, nothing of who has no name and no
    avatar."""
    profiles: dict[str, dict[str, Any]] = {}
    wanted = (list(dict.fromkeys(user_ids)), sorted(MEMBER_FIELDS))
    for user_id, field, value in snapshot.rows(_PROFILES_SQL, wanted):
        profiles.setdefault(restore(user_id), {})[field] = orjson.loads(_plain(value))
    return profiles


def show_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two contents of member events show the same name and avatar."""
    return all(one.get(field) == other.get(field) for field in MEMBER_FIELDS)


def _plain(column: bytes) -> bytes:
    value = unpacked(bytes(column))
    return b"null" if isinstance(value, Sealed) else value

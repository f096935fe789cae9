"""What a user keeps of a room in the one that replaces it: its tags, and that it is a chat with one other user.

"When a user joins the new room, the server should automatically transfer/replicate some of the user's personalized
settings such as notifications, tags, etc." (Client-Server API, "Room Upgrades")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import canonical_bytes, loads
from annals.projectors.positions.appending import Appender
from annals.projectors.sealables import unpacked
from annals.schemas.facts.users import AccountDataSet

TAG, DIRECT = "m.tag", "m.direct"

_CREATE_SQL = """
    SELECT e.client_json FROM current_state cs JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.room_id = %s AND cs.type = 'm.room.create' AND cs.state_key = ''
"""
_SETTINGS_SQL = """
    SELECT room_id, type, content FROM account_data
    WHERE user_id = %s AND ((type = 'm.tag' AND room_id IN (%s, %s)) OR (type = 'm.direct' AND room_id = ''))
"""

Settings = Mapping[tuple[str, str], Any]
"""Contents of a user's account data by (room id, type); those of no room under ""."""


class Inheritance:
    """Gives users of ours who come into a room what they had set in the one that it replaces."""

    def __init__(self, appender: Appender, database: Database) -> None:
        self._appender, self._database = appender, database

    async def give(self, user_id: str, room_id: str, cause: str) -> None:
        """The user has joined the room. Does nothing where it replaces none, or all is set."""

        def look(snapshot: Snapshot) -> dict[tuple[str, str], Any]:
            old_id = _replaced_by(snapshot, room_id)
            return {} if old_id is None else inherited(_settings(snapshot, user_id, old_id, room_id), old_id, room_id)

        found = await self._database.read(look)
        envelope = self._appender.envelope(cause)
        facts = [
            AccountDataSet(envelope, user_id, where or None, kind, canonical_bytes(content))
            for (where, kind), content in found.items()
        ]
        if facts:
            await self._appender.submit_and_settle(facts)


def inherited(settings: Settings, old_id: str, new_id: str) -> dict[tuple[str, str], Any]:
    """What is to be set in the new room. What a user has set there stays as it is."""
    found: dict[tuple[str, str], Any] = {}
    if (old_id, TAG) in settings and (new_id, TAG) not in settings:
        found[new_id, TAG] = settings[old_id, TAG]
    direct = settings.get(("", DIRECT))
    if isinstance(direct, dict):
        # "an object where the keys are the user IDs and values are lists of room ID strings"
        among = {name: ids for name, ids in direct.items() if isinstance(ids, list) and old_id in ids}
        added = {name: [*ids, new_id] for name, ids in among.items() if new_id not in ids}
        if added:
            found["", DIRECT] = {**direct, **added}
    return found


def _replaced_by(snapshot: Snapshot, room_id: str) -> str | None:
    row = snapshot.one(_CREATE_SQL, (room_id,))
    predecessor = None if row is None else loads(restore(row[0]))["content"].get("predecessor")
    old_id = predecessor.get("room_id") if isinstance(predecessor, dict) else None
    return old_id if isinstance(old_id, str) else None


def _settings(snapshot: Snapshot, user_id: str, *room_ids: str) -> dict[tuple[str, str], Any]:
    texts = {
        (restore(where), kind): unpacked(bytes(content))
        for where, kind, content in snapshot.rows(_SETTINGS_SQL, (user_id, *room_ids))
    }
    # What is sealed for ever is not there any more.
    return {key: loads(text) for key, text in texts.items() if isinstance(text, bytes)}

"""The kind of command that carries a changed display name or avatar into every room its user is in.

Each step writes what the profile says when it runs, not what it said when the command began: whatever runs late, or
twice, or out of order, rooms end with the newest. Into which rooms is said by the plan, and by who is in which room
when the command runs: by then the change is in the tables, and who joins later sees it (commands/rooms/showing.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from annals.commands.rooms.showing import member_profiles, show_the_same
from annals.commands.worker import Started, Step
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore

_MEMBER_SQL = """
    SELECT c.membership, e.client_json, e.redacted_by IS NOT NULL
    FROM current_state c JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
    WHERE c.room_id = %s AND c.type = 'm.room.member' AND c.state_key = %s
"""
_JOINED_SQL = """
    SELECT c.room_id, e.client_json, e.redacted_by IS NOT NULL
    FROM local_current_membership m
    JOIN current_state c ON c.room_id = m.room_id AND c.type = 'm.room.member' AND c.state_key = m.user_id
    JOIN events e ON e.room_id = c.room_id AND e.event_id = c.event_id
    WHERE m.user_id = %s AND m.membership = 'join' AND c.membership = 'join' AND m.room_id <> ALL(%s)
    ORDER BY c.room_id
"""


class SendsEvents(Protocol):
    """The builder of rooms, as far as this needs it."""

    async def show_member(self, room_id: str, user_id: str, content: dict[str, Any], idempotency_key: str) -> None:
        """Tell a room how a user who is in it looks. The same key again does nothing. Raises Refused."""
        ...


class ProfileFanOut:
    """A `worker.Kind`. The plan: {"rooms": [room ids], "rest": whether into all others that the user is in too, …}."""

    grace_s = 0.0

    def __init__(self, database: Database, rooms: SendsEvents) -> None:
        self._database, self._rooms = database, rooms

    async def steps(self, command: Started) -> Sequence[Step]:
        """One step a room."""
        rooms = command.plan.get("rooms")
        if not isinstance(rooms, list) or not all(isinstance(room_id, str) for room_id in rooms):
            raise ValueError("the plan lists no rooms")
        planned, user_id = list[str](rooms), command.user_id
        others = []
        if command.plan.get("rest"):
            others = await self._database.read(lambda snapshot: _others(snapshot, user_id, planned))
        return [self._step(command, room_id) for room_id in (*planned, *others)]

    def _step(self, command: Started, room_id: str) -> Step:
        user_id = command.user_id

        async def step() -> None:
            content = await self._database.read(lambda snapshot: _new_content(snapshot, room_id, user_id))
            if content is not None:
                key = f"{command.command_id} {room_id}"
                await self._rooms.show_member(room_id, user_id, content, key)

        return step


def _new_content(snapshot: Snapshot, room_id: str, user_id: str) -> dict[str, Any] | None:
    """The member event's new content; None where the user is not in the room (any more), or nothing would change."""
    row = snapshot.one(_MEMBER_SQL, (room_id, user_id))
    # Somebody who left must not be brought back by a change of name.
    if row is None or row[0] != "join":
        return None
    content = _content(snapshot, user_id)
    return None if _shows(row[1], row[2], content) else content


def _others(snapshot: Snapshot, user_id: str, rooms: Sequence[str]) -> list[str]:
    """Rooms beside these that the user is in, and that show something else than the profile."""
    content = _content(snapshot, user_id)
    rows = snapshot.rows(_JOINED_SQL, (user_id, list(rooms)))
    return [restore(room_id) for room_id, text, redacted in rows if not _shows(text, redacted, content)]


def _content(snapshot: Snapshot, user_id: str) -> dict[str, Any]:
    """What a member event of the user is to hold."""
    profile = member_profiles(snapshot, [user_id]).get(user_id, {})
    return {"membership": "join"} | {field: value for field, value in profile.items() if value is not None}


def _shows(text: str, redacted: bool, content: dict[str, Any]) -> bool:
    # A redacted member event shows nothing of the profile any more.
    current = {} if redacted else json.loads(text)["content"]
    return show_the_same(current, content)

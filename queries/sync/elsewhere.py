"""Rooms whose state we do not have: what their members invited our users with, and invites that nobody wants to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.errors import MatrixError
from annals.queries.client_events import COLUMNS, JOINS, EventRow, event_row
from annals.queries.plain import plain
from annals.queries.sync.rooms import SyncRoom

_OWN_SQL = f"""
    SELECT {COLUMNS}
    FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
    JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id
    {JOINS}
"""
_UNWANTED_SQL = """
    SELECT type, content FROM account_data
    WHERE user_id = %s AND room_id = '' AND type IN ('m.ignored_user_list', 'm.invite_permission_config')
"""


def own_events(snapshot: Snapshot, rooms: Sequence[SyncRoom]) -> dict[str, EventRow]:
    """By room: the user's own member event."""
    if not rooms:
        return {}
    ids = [room.room_id for room in rooms], [room.own_event_id for room in rooms]
    return {row.room_id: row for row in map(event_row, snapshot.rows(_OWN_SQL, ids))}


def previews(snapshot: Snapshot, rooms: Sequence[SyncRoom]) -> dict[str, list[dict[str, Any]]]:
    """By room: the stripped state that came along, and the member event itself, which must be among it."""
    found = {}
    own = own_events(snapshot, rooms)
    for room in rooms:
        state = [event for event in _array(room.preview or "[]") if _is_state_event(event)]
        if (event := own.get(room.room_id)) is not None:
            shown = _stripped(event)
            key = (shown["type"], shown["state_key"])
            state = [other for other in state if (other["type"], other["state_key"]) != key] + [shown]
        found[room.room_id] = state
    return found


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Whose invites a user does not want. `everybody`: all are blocked."""

    everybody: bool
    users: frozenset[str]

    def hides(self, state: Sequence[Mapping[str, Any]], user_id: str) -> bool:
        """Whether an invite is not shown; `state` is what it would be shown with.

        "Servers must not send room invites from ignored users to clients." "invite events for this user already in the
        database, or received over federation, MUST NOT be served" while invites are blocked.
        """
        own = ("m.room.member", user_id)
        senders = {event["sender"] for event in state if (event["type"], event["state_key"]) == own}
        return self.everybody or not self.users.isdisjoint(senders)


def unwanted_inviters(snapshot: Snapshot, user_id: str) -> Unwanted:
    """What the user's account data say of invites."""
    everybody, users = False, frozenset[str]()
    for kind, column in snapshot.rows(_UNWANTED_SQL, (user_id,)):
        content = _object(plain(column))
        if kind == "m.invite_permission_config":
            everybody = content.get("default_action") == "block"
        else:
            ignored = content.get("ignored_users")
            users = frozenset(ignored) if isinstance(ignored, dict) else users
    return Unwanted(everybody, users)


def _stripped(event: EventRow) -> dict[str, Any]:
    content = loads(restore(event.client_json)).get("content", {})
    return {"type": event.type, "state_key": event.state_key, "sender": event.sender, "content": content}


def _is_state_event(event: object) -> bool:
    """Whatever the tables hold, a client gets a state event or nothing."""
    return (
        isinstance(event, dict)
        and all(isinstance(event.get(key), str) for key in ("type", "state_key", "sender"))
        and isinstance(event.get("content"), dict)
    )


def _array(text: str) -> list[Any]:
    value = _json(restore(text).encode())
    return value if isinstance(value, list) else []


def _object(text: bytes) -> dict[str, Any]:
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _json(text: bytes) -> Any:
    try:
        return loads(text)
    except MatrixError:
        return None

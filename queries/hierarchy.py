"""Spaces: rooms with their children, for users of ours and for other servers (security row 35).

Told of is only what who asks may enter, or read, or is in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.projectors.rooms.standing import standings
from annals.queries.errors import NotThere
from annals.queries.room_summaries import RoomSummary, content_of, room_summaries

#: Children of one space that other servers are told of.
CHILDREN_MAX = 50
_CHILD = "m.space.child"

_CHILDREN_SQL = """
    SELECT cs.room_id, cs.state_key, e.event_id, e.room_version, e.sender, e.origin_server_ts, e.client_json,
        CASE WHEN e.redacted_by IS NULL THEN NULL ELSE e.federation_json END
    FROM current_state cs JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.room_id = ANY (%s) AND cs.type = 'm.space.child'
"""
_OF_USER_SQL = """
    SELECT m.room_id, m.membership FROM local_current_membership m
    WHERE m.user_id = %s AND m.room_id = ANY (%s) AND m.membership IN ('join', 'invite')
"""
_OF_SERVER_SQL = """
    SELECT cs.room_id, min(cs.membership) FILTER (WHERE cs.membership = 'join') IS NOT NULL FROM current_state cs
    WHERE cs.room_id = ANY (%s) AND cs.type = 'm.room.member' AND cs.membership IN ('join', 'invite')
        AND substr(cs.state_key, strpos(cs.state_key, ':') + 1) = %s
    GROUP BY cs.room_id
"""


@dataclass(frozen=True, slots=True)
class SpaceRoom:
    """A room of a hierarchy: what is told of it, and its children in their order."""

    summary: Mapping[str, Any]
    children: Sequence[Mapping[str, Any]]
    accessible: bool

    def shown(self) -> dict[str, Any]:
        """As clients and servers get it."""
        return {**self.summary, "children_state": list(self.children)}


class Spaces:
    """Queries on spaces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def for_server(self, server: str, room_id: str, suggested_only: bool) -> dict[str, Any]:
        """A space and its children, as far as the server may know of them. Raises NotThere."""
        return await self._database.read(lambda snapshot: _for_server(snapshot, server, room_id, suggested_only))

    async def for_user(self, user_id: str, room_ids: Collection[str]) -> dict[str, SpaceRoom]:
        """Those of these rooms that this server is in."""
        return await self._database.read(lambda snapshot: _for_user(snapshot, user_id, room_ids))

    async def memberships(self, user_id: str, room_ids: Collection[str]) -> dict[str, str]:
        """Where the user is joined or invited, of these rooms."""
        return await self._database.read(lambda snapshot: _of_user(snapshot, user_id, room_ids))


def _for_server(snapshot: Snapshot, server: str, room_id: str, suggested_only: bool) -> dict[str, Any]:
    parent = room_summaries(snapshot, [room_id]).get(room_id)
    if parent is None:
        raise NotThere(room_id)
    children = _children(snapshot, [parent]).get(room_id, [])
    if suggested_only:
        children = [child for child in children if child["content"].get("suggested") is True]
    children = children[:CHILDREN_MAX]
    rooms = room_summaries(snapshot, [child["state_key"] for child in children])
    rooms[room_id] = parent
    accessible = _accessible_to_server(snapshot, server, rooms)
    if room_id not in accessible:
        raise NotThere(room_id)
    named = [child["state_key"] for child in children if child["state_key"] in rooms]
    return {
        "room": {**parent.summary(), "children_state": children},
        "children": [rooms[child].summary() for child in named if child in accessible],
        "inaccessible_children": [child for child in named if child not in accessible],
    }


def _accessible_to_server(snapshot: Snapshot, server: str, rooms: Mapping[str, RoomSummary]) -> frozenset[str]:
    allowed = {allowing for room in rooms.values() for allowing in room.allowed_room_ids}
    rows = snapshot.rows(_OF_SERVER_SQL, ([*rooms, *allowed], server))
    joined = {restore(room_id): is_joined for room_id, is_joined in rows}
    of_rooms = standings(snapshot, list(rooms))
    return frozenset(
        room_id
        for room_id, room in rooms.items()
        if (room_id in joined or room.is_open or any(joined.get(allowing) for allowing in room.allowed_room_ids))
        and room_id in of_rooms
        and of_rooms[room_id].admits(server)
    )


def _for_user(snapshot: Snapshot, user_id: str, room_ids: Collection[str]) -> dict[str, SpaceRoom]:
    rooms = room_summaries(snapshot, room_ids)
    children = _children(snapshot, rooms.values())
    allowed = {allowing for room in rooms.values() for allowing in room.allowed_room_ids}
    member_of = _of_user(snapshot, user_id, {*rooms, *allowed})
    return {
        room_id: SpaceRoom(room.summary(), children.get(room_id, []), is_accessible(room.summary(), member_of))
        for room_id, room in rooms.items()
    }


def is_accessible(summary: Mapping[str, Any], member_of: Mapping[str, str]) -> bool:
    """Whether a user who is in (or invited to) some rooms may know of the room of a summary."""
    if summary.get("room_id") in member_of or summary.get("world_readable") is True:
        return True
    # "When not present, the room is assumed to be `public`."
    if summary.get("join_rule", "public") in ("public", "knock", "knock_restricted"):
        return True
    allowed = summary.get("allowed_room_ids")
    return isinstance(allowed, list) and any(
        isinstance(room_id, str) and member_of.get(room_id) == "join" for room_id in allowed
    )


def _of_user(snapshot: Snapshot, user_id: str, room_ids: Collection[str]) -> dict[str, str]:
    rows = snapshot.rows(_OF_USER_SQL, (user_id, list(room_ids)))
    return {restore(room_id): membership for room_id, membership in rows}


def _children(snapshot: Snapshot, rooms: Collection[RoomSummary]) -> dict[str, list[dict[str, Any]]]:
    # "If the room is not a space-room, this should be empty."
    spaces = [room.room_id for room in rooms if room.is_space]
    found: dict[str, list[dict[str, Any]]] = {}
    rows = snapshot.rows(_CHILDREN_SQL, (spaces,)) if spaces else []
    for room_id, state_key, event_id, version, sender, at_ms, text, federation_json in rows:
        content = content_of(text, federation_json, version, restore(event_id))
        child = {
            "type": _CHILD,
            "state_key": restore(state_key),
            "content": content,
            "sender": restore(sender),
            "origin_server_ts": at_ms,
        }
        if via_of(child):
            found.setdefault(restore(room_id), []).append(child)
    return {room_id: sorted(children, key=child_order) for room_id, children in found.items()}


def via_of(child: Mapping[str, Any]) -> list[str]:
    """The servers through which a child room is found. "When `via` is … absent, … the child … should be ignored." """
    content = child.get("content")
    via = content.get("via") if isinstance(content, dict) else None
    return [server for server in via if isinstance(server, str)] if isinstance(via, list) else []


def child_order(child: Mapping[str, Any]) -> tuple[bool, str, int, str]:
    """The order of the children of a space."""
    order = child["content"].get("order")
    # "`order` … strings … must not exceed 50 characters … within the range \x20 (space) to \x7E (~)"
    is_valid = isinstance(order, str) and len(order) <= 50 and all(" " <= letter <= "~" for letter in order)
    at_ms = child.get("origin_server_ts")
    return not is_valid, order if is_valid else "", at_ms if isinstance(at_ms, int) else 0, str(child["state_key"])

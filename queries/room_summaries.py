"""What is said of rooms to those who are not in them: names, topics, how many are there; and which may be entered.

Set-wise: two queries for any number of rooms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.queries.client_events import redacted_text

# Rooms that a user of ours is in: of others the state that we have may be of long ago.
_STATE_SQL = """
    SELECT cs.room_id, cs.type, e.event_id, e.room_version, e.client_json,
        CASE WHEN e.redacted_by IS NULL THEN NULL ELSE e.federation_json END
    FROM current_state cs JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    WHERE cs.room_id = ANY (%s) AND cs.state_key = '' AND cs.type IN (
        'm.room.create', 'm.room.name', 'm.room.topic', 'm.room.avatar', 'm.room.canonical_alias',
        'm.room.join_rules', 'm.room.history_visibility', 'm.room.guest_access', 'm.room.encryption')
    AND EXISTS (
        SELECT 1 FROM local_current_membership m WHERE m.room_id = cs.room_id AND m.membership = 'join')
"""
_JOINED_SQL = """
    SELECT cs.room_id, count(*) FROM current_state cs
    WHERE cs.room_id = ANY (%s) AND cs.type = 'm.room.member' AND cs.membership = 'join' GROUP BY cs.room_id
"""
_OPEN_RULES = frozenset(("public", "knock", "knock_restricted"))
_RESTRICTED_RULES = frozenset(("restricted", "knock_restricted"))
_PLAIN = (
    ("name", "m.room.name", "name"),
    ("topic", "m.room.topic", "topic"),
    ("avatar_url", "m.room.avatar", "url"),
    ("canonical_alias", "m.room.canonical_alias", "alias"),
    ("room_type", "m.room.create", "type"),
    ("encryption", "m.room.encryption", "algorithm"),
)


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """A room as strangers are told of it. `contents`: of its state with an empty key, by type."""

    room_id: str
    room_version: str
    joined: int
    contents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def text(self, event_type: str, key: str) -> str | None:
        """A string of a state event's content; None for what is none."""
        value = self.contents.get(event_type, {}).get(key)
        return value if isinstance(value, str) else None

    @property
    def join_rule(self) -> str:
        """The room's join rule. A room without one is joined by invitation."""
        return self.text("m.room.join_rules", "join_rule") or "invite"

    @property
    def world_readable(self) -> bool:
        """Whether anybody may read it."""
        return self.text("m.room.history_visibility", "history_visibility") == "world_readable"

    @property
    def is_space(self) -> bool:
        """Whether it is a space."""
        return self.text("m.room.create", "type") == "m.space"

    @property
    def is_open(self) -> bool:
        """Whether everybody may know of it: anybody may join or knock, or read it."""
        return self.world_readable or self.join_rule in _OPEN_RULES

    @property
    def allowed_room_ids(self) -> list[str]:
        """The rooms whose members may join."""
        if self.join_rule not in _RESTRICTED_RULES:
            return []
        allow = self.contents.get("m.room.join_rules", {}).get("allow")
        conditions = [one for one in allow if isinstance(one, dict)] if isinstance(allow, list) else []
        named = (one.get("room_id") for one in conditions if one.get("type") == "m.room_membership")
        return [room_id for room_id in named if isinstance(room_id, str)]

    def published(self) -> dict[str, Any]:
        """As an entry of the directory."""
        shown: dict[str, Any] = {
            "room_id": self.room_id,
            "num_joined_members": self.joined,
            "world_readable": self.world_readable,
            "guest_can_join": self.text("m.room.guest_access", "guest_access") == "can_join",
            "join_rule": self.join_rule,
        }
        named = ((name, self.text(event_type, key)) for name, event_type, key in _PLAIN if name != "encryption")
        return shown | {name: value for name, value in named if value is not None}

    def summary(self) -> dict[str, Any]:
        """As a RoomSummary of a hierarchy."""
        shown = self.published() | {"room_version": self.room_version}
        if self.allowed_room_ids:
            shown["allowed_room_ids"] = self.allowed_room_ids
        algorithm = self.text("m.room.encryption", "algorithm")
        return shown if algorithm is None else shown | {"encryption": algorithm}


def room_summaries(snapshot: Snapshot, room_ids: Collection[str]) -> dict[str, RoomSummary]:
    """Of those of these rooms that this server is in."""
    if not room_ids:
        return {}
    contents: dict[str, dict[str, Mapping[str, Any]]] = {}
    versions: dict[str, str] = {}
    for stored_id, event_type, event_id, version, text, federation_json in snapshot.rows(_STATE_SQL, (list(room_ids),)):
        room_id = restore(stored_id)
        content = content_of(text, federation_json, version, restore(event_id))
        contents.setdefault(room_id, {})[event_type] = content
        versions[room_id] = version
    joined = {restore(room_id): count for room_id, count in snapshot.rows(_JOINED_SQL, (list(contents),))}
    return {
        room_id: RoomSummary(room_id, versions[room_id], joined.get(room_id, 0), found)
        for room_id, found in contents.items()
    }


def content_of(client_json: str, federation_json: str | None, room_version: str, event_id: str) -> Mapping[str, Any]:
    """The content of a stored event. `federation_json` is given where it was redacted."""
    if federation_json is not None:
        client_json = redacted_text(client_json, federation_json, room_version, event_id)
    content = loads(restore(client_json)).get("content")
    return content if isinstance(content, dict) else {}

"""Presence of our users, for other servers: what they have not been told yet, and which of them share a room."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.egress.audiences import Audiences
from annals.matrix.presence import OFFLINE, Presence
from annals.schemas.facts.ephemeral import PresenceSet

#: Other servers believe no longer than half an hour that somebody is there.
AGAIN_MS = 1_500_000

_ROOMS_SQL = "SELECT user_id, room_id FROM local_current_membership WHERE user_id = ANY (%s) AND membership = 'join'"


@dataclass(slots=True)
class PresenceOut:
    """What was said of each user who is there, and when; the log says it more often than others need to hear it."""

    _said: dict[str, tuple[Presence, int]] = field(default_factory=dict)

    def news(self, facts: Mapping[str, PresenceSet], now_ms: int) -> dict[str, Presence]:
        """Of the last fact of each user, what is to be told now; it is taken as told."""
        found = {}
        for user_id, fact in facts.items():
            status = fact.status_msg.decode("utf-8", "replace") if isinstance(fact.status_msg, bytes) else None
            presence = Presence(fact.presence, status, fact.last_active_ms, fact.currently_active)
            before, said_ms = self._said.pop(user_id, (None, 0))
            if before is not None and presence.says_the_same_as(before) and now_ms - said_ms < AGAIN_MS:
                self._said[user_id] = (before, said_ms)
                continue
            found[user_id] = presence
            if presence.presence != OFFLINE:
                self._said[user_id] = (presence, now_ms)
        return found


def servers_of(snapshot: Snapshot, audiences: Audiences, user_ids: list[str]) -> dict[str, frozenset[str]]:
    """The servers, but us, that share a room with each user now."""
    rooms: defaultdict[str, list[str]] = defaultdict(list)
    for user_id, room_id in snapshot.rows(_ROOMS_SQL, (user_ids,)):
        rooms[restore(user_id)].append(restore(room_id))
    servers = audiences.now(snapshot, {room_id for of_user in rooms.values() for room_id in of_user})
    return {
        user_id: frozenset().union(*(servers[room_id] for room_id in of_user)) for user_id, of_user in rooms.items()
    }


def presence_edu(user_id: str, presence: Presence, now_ms: int) -> dict[str, Any]:
    """The EDU that tells one user's presence."""
    return {"edu_type": "m.presence", "content": {"push": [presence.update(user_id, now_ms)]}}

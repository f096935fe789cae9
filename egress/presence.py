"""Presence of our users, for other servers: what they have not been told yet, and which of them share a room."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.egress.audiences import Audiences
from annals.matrix.presence import OFFLINE, Presence

#: Other servers believe no longer than half an hour that somebody is there.
AGAIN_MS = 1_500_000

_ROOMS_SQL = "SELECT user_id, room_id FROM local_current_membership WHERE user_id = ANY (%s) AND membership = 'join'"


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of a user, when first, and to which servers."""

    presence: Presence
    said_ms: int
    servers: frozenset[str]


@dataclass(slots=True)
class PresenceOut:
    """What was said of each user who is there, and to whom; the log says it more often than others need to hear it."""

    _said: dict[str, _Said] = field(default_factory=dict)

    def unaware(self, user_id: str, presence: Presence, servers: frozenset[str], now_ms: int) -> frozenset[str]:
        """Those of the servers that have to be told now."""
        before = self._said.get(user_id)
        return servers if before is None or _is_news(before, presence, now_ms) else servers - before.servers

    def told(self, user_id: str, presence: Presence, servers: frozenset[str], now_ms: int) -> None:
        """These will hear of it. A server that was not told hears of it when it is said next."""
        before = self._said.pop(user_id, None)
        if presence.presence == OFFLINE:
            return
        if before is None or _is_news(before, presence, now_ms):
            self._said[user_id] = _Said(presence, now_ms, servers)
        else:
            self._said[user_id] = _Said(before.presence, before.said_ms, before.servers | servers)


def _is_news(before: _Said, presence: Presence, now_ms: int) -> bool:
    return not presence.says_the_same_as(before.presence) or now_ms - before.said_ms >= AGAIN_MS


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

"""What the current state says about rooms as wholes: how many are in them, after whom to name them, who has power.

Summaries and unread counts of a /sync come from this one query.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore

# "The users which can be used to generate a room name": five joined or invited ones by their member events, the user
# left out; where there are none, those who left.
_FACTS_SQL = """
    SELECT w.room_id, counts.joined, counts.invited,
        CASE WHEN w.heroes THEN COALESCE(NULLIF(ARRAY(
            SELECT cs.state_key FROM current_state cs
            WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key <> %s
                AND cs.membership IN ('join', 'invite')
            ORDER BY cs.position, cs.state_key LIMIT 5), '{}'), ARRAY(
            SELECT cs.state_key FROM current_state cs
            WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key <> %s
                AND cs.membership IN ('leave', 'ban')
            ORDER BY cs.position, cs.state_key LIMIT 5)) END,
        create_.room_version, create_.client_json, levels.client_json, levels.redacted, own.client_json
    FROM unnest(%s::text[], %s::boolean[]) AS w(room_id, heroes)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE cs.membership = 'join') AS joined,
            count(*) FILTER (WHERE cs.membership = 'invite') AS invited
        FROM current_state cs WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member') AS counts
    LEFT JOIN LATERAL (SELECT e.client_json, e.room_version
        FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE cs.room_id = w.room_id AND cs.type = 'm.room.create' AND cs.state_key = '') AS create_ ON TRUE
    LEFT JOIN LATERAL (SELECT e.client_json, e.redacted_by IS NOT NULL AS redacted
        FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE cs.room_id = w.room_id AND cs.type = 'm.room.power_levels' AND cs.state_key = '') AS levels ON TRUE
    LEFT JOIN LATERAL (SELECT e.client_json FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key = %s
            AND e.redacted_by IS NULL) AS own ON TRUE
"""


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """The answer for one room. The JSON texts, as stored, are of its create and power levels events and of the user's
    member event, unless it was redacted (then it shows no name)."""

    joined: int
    invited: int
    heroes: tuple[str, ...]
    room_version: str | None
    create_json: str | None
    levels_json: str | None
    levels_redacted: bool | None
    own_json: str | None

    def summary(self) -> dict[str, Any]:
        """As in a /sync answer."""
        return {
            "m.joined_member_count": self.joined,
            "m.invited_member_count": self.invited,
            "m.heroes": list(self.heroes),
        }


def room_facts(
    snapshot: Snapshot, room_ids: Sequence[str], with_heroes: Collection[str], user_id: str
) -> dict[str, RoomFacts]:
    """The facts of each of these rooms; heroes only of those in `with_heroes`."""
    if not room_ids:
        return {}
    flags = [room_id in with_heroes for room_id in room_ids]
    rows = snapshot.rows(_FACTS_SQL, (user_id, user_id, list(room_ids), flags, user_id))
    return {
        restore(room_id): RoomFacts(joined, invited, tuple(restore(hero) for hero in heroes or ()), *texts)
        for room_id, joined, invited, heroes, *texts in rows
    }

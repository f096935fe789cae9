"""What is said about rooms as wholes: how many are in them, after whom to name them, who has power, what is unread.

Summaries and unread counts of a /sync come from this one query. It names unread events without their texts: nearly all
were judged before, and each reading of a busy room would carry a hundred.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.client_events import VISIBLE

#: So many unread events of a room are looked at, the oldest ones.
UNREAD_MAX = 100
#: Joined members beyond these are not counted where only push rules ask: the predefined ones know one and two.
COUNTED_MAX = 3

# Unread: behind the newest event that a receipt of the user names; without one, behind the user's latest coming. What
# only a summary or an unread event needs is read where there is one.
# "The users which can be used to generate a room name": five joined or invited ones by their member events, the user
# left out; where there are none, those who left.
_FACTS_SQL = f"""
    WITH w AS MATERIALIZED (
        SELECT asked.room_id, asked.heroes, ARRAY(
            SELECT e.event_id FROM events e
            WHERE e.room_id = asked.room_id AND e.position > low.position AND e.sender <> %s
                AND {VISIBLE} AND NOT e.backfilled AND e.redacted_by IS NULL
            ORDER BY e.position LIMIT {UNREAD_MAX}) AS unread
        FROM unnest(%s::text[], %s::boolean[]) AS asked(room_id, heroes)
        CROSS JOIN LATERAL (SELECT COALESCE(
            (SELECT max(e.position) FROM receipts r JOIN events e ON e.room_id = r.room_id AND e.event_id = r.event_id
             WHERE r.room_id = asked.room_id AND r.user_id = %s AND r.receipt_type IN ('m.read', 'm.read.private')),
            (SELECT max(own.position) FROM (
                SELECT d.position, d.membership, lag(d.membership) OVER (ORDER BY d.position, d.ordinal) AS before
                FROM current_state_deltas d
                WHERE d.room_id = asked.room_id AND d.type = 'm.room.member' AND d.state_key = %s) AS own
             WHERE own.membership = 'join' AND own.before IS DISTINCT FROM 'join'), 0) AS position) AS low
    )
    SELECT w.room_id, w.unread, counts.joined, counts.invited,
        CASE WHEN w.heroes THEN COALESCE(NULLIF(ARRAY(
            SELECT cs.state_key FROM current_state cs
            WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key <> %s
                AND cs.membership IN ('join', 'invite')
            ORDER BY cs.position, cs.state_key LIMIT 5), '{{}}'), ARRAY(
            SELECT cs.state_key FROM current_state cs
            WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key <> %s
                AND cs.membership IN ('leave', 'ban')
            ORDER BY cs.position, cs.state_key LIMIT 5)) END,
        create_.room_version, create_.client_json, levels.client_json, levels.redacted, own.client_json
    FROM w
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE member.membership = 'join') AS joined,
            count(*) FILTER (WHERE member.membership = 'invite') AS invited
        FROM (
            SELECT cs.membership FROM current_state cs
            WHERE w.heroes AND cs.room_id = w.room_id AND cs.type = 'm.room.member'
            UNION ALL (
                SELECT cs.membership FROM current_state cs
                WHERE NOT w.heroes AND w.unread <> '{{}}'
                    AND cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.membership = 'join'
                LIMIT {COUNTED_MAX})
        ) AS member) AS counts
    LEFT JOIN LATERAL (SELECT e.client_json, e.room_version
        FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE w.unread <> '{{}}'
            AND cs.room_id = w.room_id AND cs.type = 'm.room.create' AND cs.state_key = '') AS create_ ON TRUE
    LEFT JOIN LATERAL (SELECT e.client_json, e.redacted_by IS NOT NULL AS redacted
        FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE w.unread <> '{{}}'
            AND cs.room_id = w.room_id AND cs.type = 'm.room.power_levels' AND cs.state_key = '') AS levels ON TRUE
    LEFT JOIN LATERAL (SELECT e.client_json FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE w.unread <> '{{}}'
            AND cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key = %s
            AND e.redacted_by IS NULL) AS own ON TRUE
"""


@dataclass(frozen=True, slots=True)
class RoomFacts:
    """The answer for one room. `unread`: ids of events that the user has not read, oldest first.

    `joined` and `invited` are all of them where heroes were asked for, else at most COUNTED_MAX and none. The JSON
    texts, as stored, are of the room's create and power levels events and of the user's member event, unless it was
    redacted (then it shows no name); they are read where something is unread.
    """

    unread: tuple[str, ...]
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
    users = [user_id] * 5
    rows = snapshot.rows(_FACTS_SQL, (user_id, list(room_ids), flags, *users))
    return {
        restore(room_id): RoomFacts(
            tuple(map(restore, unread)), joined, invited, tuple(map(restore, heroes or ())), *texts
        )
        for room_id, unread, joined, invited, heroes, *texts in rows
    }

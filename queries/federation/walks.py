"""Walking back in a room's DAG: breadth first over prev_events, one query, its work bounded by what is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.federation.pdus import SERVED_SQL

# One row a level: what was found there, and all that was found before it. A level has no more than the prev_events of
# the one before it, and the last one is begun with less than `limit` found.
_WALK_SQL = f"""
    WITH RECURSIVE walk(n, front, seen) AS (
        SELECT 0, %s::text[], %s::text[]
        UNION ALL
        SELECT w.n + 1, next.front, w.seen || next.front
        FROM walk w CROSS JOIN LATERAL (
            SELECT array_agg(found.event_id ORDER BY found.depth DESC, found.event_id) AS front FROM (
                SELECT DISTINCT p.event_id, p.depth
                FROM unnest(w.front) AS f(event_id)
                CROSS JOIN LATERAL (
                    SELECT e.prev_events FROM events e WHERE e.room_id = %s AND e.event_id = f.event_id OFFSET 0
                ) AS cited
                CROSS JOIN LATERAL unnest(cited.prev_events) AS c(event_id)
                CROSS JOIN LATERAL (
                    SELECT e.event_id, e.depth FROM events e
                    WHERE e.room_id = %s AND e.event_id = c.event_id AND e.depth >= %s AND NOT e.outlier
                        AND e.verdict IN ({SERVED_SQL})
                    OFFSET 0
                ) AS p
                WHERE p.event_id <> ALL (w.seen)
            ) AS found
        ) AS next
        WHERE next.front IS NOT NULL AND cardinality(w.seen) < %s
    )
    SELECT front FROM walk WHERE n > 0 ORDER BY n
"""


@dataclass(frozen=True, slots=True)
class Walk:
    """From `latest` backwards: up to `limit` events that are no `earliest` ones, none below `min_depth`."""

    latest: Collection[str]
    limit: int
    earliest: Collection[str] = ()
    min_depth: int = 0


def ancestors(snapshot: Snapshot, room_id: str, walk: Walk) -> list[str]:
    """The ids of what lies before `latest` in the room, nearest first; `latest` themselves are left out."""
    start = list(dict.fromkeys(event_id for event_id in walk.latest if event_id not in set(walk.earliest)))
    if not start or walk.limit <= 0:
        return []
    seen = list(dict.fromkeys((*walk.latest, *walk.earliest)))
    params = (start, seen, room_id, room_id, walk.min_depth, len(seen) + walk.limit)
    found = [restore(event_id) for (front,) in snapshot.rows(_WALK_SQL, params) for event_id in front]
    return found[: walk.limit]

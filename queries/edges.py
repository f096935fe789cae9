"""Where the past of a room begins to be unknown to us: events that others follow, and that we do not have.

Only rooms in which we were given a state by another server have such edges: their past was never sent to us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.queries.pages import PageToken

Past = Callable[[str, Sequence[str], int], Awaitable[bool]]
"""(room id, edges, how many events): fetches what lies there. True: something came, so look again."""

EDGES_MAX = 20
_LOOKED_AT_MAX = 1_000

_KNOWN = "NOT {0}.outlier AND {0}.verdict IN ('accepted', 'soft_failed', 'rejected', 'pending_policy')"
_EDGES_SQL = f"""
    SELECT prev.event_id, max(near.depth) FROM (
        SELECT e.depth, e.prev_events FROM events e
        WHERE e.room_id = %s AND EXISTS (SELECT 1 FROM state_sets s WHERE s.room_id = e.room_id)
            AND e.depth BETWEEN %s AND %s AND {_KNOWN.format("e")}
        ORDER BY e.depth DESC, e.position DESC LIMIT %s
    ) AS near CROSS JOIN LATERAL unnest(near.prev_events) AS prev(event_id)
    WHERE NOT EXISTS (SELECT 1 FROM events k
        WHERE k.room_id = %s AND k.event_id = prev.event_id AND {_KNOWN.format("k")})
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %s
"""


def edges_within(snapshot: Snapshot, room_id: str, newest: PageToken, oldest: PageToken | None) -> tuple[str, ...]:
    """What events between two places follow, and we lack; the nearest to `newest` first."""
    lowest = oldest.depth if oldest is not None else 0
    rows = snapshot.rows(_EDGES_SQL, (room_id, lowest, newest.depth, _LOOKED_AT_MAX, room_id, EDGES_MAX))
    return tuple(restore(event_id) for event_id, _ in rows)

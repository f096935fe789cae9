"""Which rooms two generations have otherwise: by the fingerprint of the current state, and by the timeline's hash; and
which of our users they have otherwise in them.

A timeline's hash is a sum over its events' ids, stream positions and verdicts, computed when it is asked for: nothing
of it is written beside each message. All that both have is hashed while they go on; once they stand still, only what
came since. That is enough: an event that was judged again meanwhile has a stream position of since.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from annals.database.generation import checked_generation
from annals.database.text import restore, storable
from annals.schemas.position import step_start

TOPIC = "rooms"

_HASHED = """
    SELECT e.room_id, count(*) AS events,
        sum(('x' || left(md5(e.event_id || ' ' || e.position || ' ' || e.verdict), 16))::bit(64)::bigint) AS hash
    FROM {generation}.events e JOIN w ON e.partition = w.partition AND e.position {side} w.low
    GROUP BY e.room_id"""
_TIMELINES = """
WITH w AS (SELECT * FROM unnest(%s::smallint[], %s::bigint[]) AS w(partition, low)),
a AS ({left}), b AS ({right})
SELECT room_id FROM a FULL JOIN b USING (room_id) WHERE (a.events, a.hash) IS DISTINCT FROM (b.events, b.hash)"""
_STATES = """
SELECT room_id FROM {left}.rooms a FULL JOIN {right}.rooms b USING (room_id)
WHERE (a.room_id IS NULL) <> (b.room_id IS NULL) OR a.current_fingerprint IS DISTINCT FROM b.current_fingerprint"""

# By what clients are shown: what was forgotten is as out of sight as what never was.
_MEMBERSHIPS = """
SELECT room_id, user_id
FROM (SELECT * FROM {left}.local_current_membership WHERE room_id = ANY (%s::text[]) AND NOT forgotten) a
FULL JOIN (SELECT * FROM {right}.local_current_membership WHERE room_id = ANY (%s::text[]) AND NOT forgotten) b
    USING (room_id, user_id)
WHERE a.membership IS DISTINCT FROM b.membership
    AND (a.membership IN ('join', 'invite', 'knock') OR b.membership IN ('join', 'invite', 'knock'))
ORDER BY room_id, user_id"""


class Reads(Protocol):
    """A snapshot, or a transaction."""

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


def other_timelines(reads: Reads, left: str, right: str, lows: Mapping[int, int], *, before: bool) -> set[str]:
    """Rooms whose events differ among those that became visible before (or else from) an offset of their partition."""
    side = "<" if before else ">="
    sql = _TIMELINES.format(
        left=_HASHED.format(generation=checked_generation(left), side=side),
        right=_HASHED.format(generation=checked_generation(right), side=side),
    )
    params = (list(lows), [step_start(offset) for offset in lows.values()])
    return {restore(room_id) for (room_id,) in reads.rows(sql, params)}


def other_states(reads: Reads, left: str, right: str) -> set[str]:
    """Rooms whose current state has another fingerprint, or that one of them does not have."""
    sql = _STATES.format(left=checked_generation(left), right=checked_generation(right))
    return {restore(room_id) for (room_id,) in reads.rows(sql)}


def other_memberships(reads: Reads, left: str, right: str, rooms: Collection[str]) -> list[tuple[str, str]]:
    """Room and user of ours, in order, where what the user is shown of these rooms has another membership: in the room
    or asked to be in one of the generations, and something else, or nothing at all, in the other one."""
    if not rooms:
        return []
    sql = _MEMBERSHIPS.format(left=checked_generation(left), right=checked_generation(right))
    named = [storable(room_id) for room_id in sorted(rooms)]
    return [(restore(room_id), restore(user_id)) for room_id, user_id in reads.rows(sql, (named, named))]


def common_lows(reads: Reads, left: str, right: str) -> dict[int, int]:
    """By partition of topic `rooms`: the offset below which both have everything."""
    sql = (
        f"SELECT partition, min(next_offset) FROM (SELECT * FROM {checked_generation(left)}.positions"
        f" UNION ALL SELECT * FROM {checked_generation(right)}.positions) p WHERE topic = %s GROUP BY partition"
    )
    return dict(reads.rows(sql, (TOPIC,)))

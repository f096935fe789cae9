"""Which events of a room a user may see: history visibility, by the state at each event (security row 32).

The state before an event names the visibility and the user's membership there; both are read from the stored states of
all events at once. A room whose visibility was never anything but shared or world_readable needs no look at single
events once the user is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.visibility import HistoryVisibility, may_see
from annals.projectors.rooms.read import shown_event
from annals.queries.client_events import EventRow
from annals.queries.stays import END, left_at

_VISIBILITY = "m.room.history_visibility"
_MEMBER = "m.room.member"
_OPEN = frozenset((HistoryVisibility.SHARED, HistoryVisibility.WORLD_READABLE))

_KNOWN_SQL = """
    SELECT w.room_id, m.membership,
        ARRAY(SELECT d.position FROM current_state_deltas d
            WHERE d.room_id = w.room_id AND d.type = 'm.room.member' AND d.state_key = %s
            ORDER BY d.position, d.ordinal),
        ARRAY(SELECT d.membership FROM current_state_deltas d
            WHERE d.room_id = w.room_id AND d.type = 'm.room.member' AND d.state_key = %s
            ORDER BY d.position, d.ordinal),
        ARRAY(SELECT e.client_json FROM current_state_deltas d JOIN events e USING (room_id, event_id)
            WHERE d.room_id = w.room_id AND d.type = 'm.room.history_visibility' AND d.state_key = '')
    FROM unnest(%s::text[]) AS w(room_id)
    LEFT JOIN local_current_membership m ON m.room_id = w.room_id AND m.user_id = %s
"""
# The visibility and the user's membership in stored states: of a key's entries along the line of bases the nearest
# counts.
_BEFORE_SQL = """
    WITH RECURSIVE line(room_id, wanted, state_id, base_id, n) AS (
        SELECT s.room_id, s.state_id, s.state_id, s.base_id, 0
        FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, state_id)
        JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
        UNION ALL
        SELECT l.room_id, l.wanted, s.state_id, s.base_id, l.n + 1
        FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
    ), entries AS (
        SELECT DISTINCT ON (l.room_id, l.wanted, k.type) l.room_id, l.wanted, k.type, d.event_id
        FROM line l
        CROSS JOIN (VALUES ('m.room.history_visibility', ''), ('m.room.member', %s)) AS k(type, state_key)
        JOIN state_deltas d
            ON d.room_id = l.room_id AND d.state_id = l.state_id AND d.type = k.type AND d.state_key = k.state_key
        ORDER BY l.room_id, l.wanted, k.type, l.n
    )
    SELECT n.room_id, n.wanted, n.type, e.client_json
    FROM entries n JOIN events e ON e.room_id = n.room_id AND e.event_id = n.event_id
"""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a user and a room before single events are looked at."""

    membership: str | None
    #: stream position up to which the user was in the room; END for who is, -1 for who never was
    in_until: int
    #: the room's history was open to every member at all times
    open: bool

    @property
    def sees_all(self) -> bool:
        """Whether no event needs a look."""
        return self.open and self.membership == "join"


def known_of(membership: str | None, transitions: Iterable[tuple[int, str | None]], settings: Iterable[str]) -> Known:
    """`transitions`: of the user's membership; `settings`: every history_visibility event the room ever had."""
    is_open = all(_setting(loads(restore(text)).get("content")) in _OPEN for text in settings)
    left = END if membership == "join" else left_at(transitions)
    return Known(membership, -1 if left is None else left, is_open)


def visible_to(
    snapshot: Snapshot, events: Sequence[EventRow], user_id: str, known: Mapping[str, Known] | None = None
) -> frozenset[str]:
    """The ids of those of these events that the user may see. `known`, by room id, saves a query."""
    if not events:
        return frozenset()
    if known is None:
        known = _known(snapshot, sorted({event.room_id for event in events}), user_id)
    # NOTSPEC: what became of oneself may always be seen: it was told at the time, in a /sync.
    own = (_MEMBER, user_id)
    seen = {e.event_id for e in events if known[e.room_id].sees_all or (e.type, e.state_key) == own}
    doubtful = [event for event in events if event.event_id not in seen]
    return frozenset(seen | _judged(snapshot, doubtful, user_id, known))


def _known(snapshot: Snapshot, room_ids: Sequence[str], user_id: str) -> dict[str, Known]:
    rows = snapshot.rows(_KNOWN_SQL, (user_id, user_id, list(room_ids), user_id))
    return {
        restore(room_id): known_of(membership, zip(positions, memberships, strict=True), texts)
        for room_id, membership, positions, memberships, texts in rows
    }


def _judged(snapshot: Snapshot, events: Sequence[EventRow], user_id: str, known: Mapping[str, Known]) -> set[str]:
    if not events:
        return set()
    before = _before(snapshot, events, user_id)
    seen = set()
    for row in events:
        of_event = before.get((row.room_id, row.state_before or 0), {})
        membership = of_event.get(_MEMBER)
        if may_see(
            shown_event(restore(row.client_json), row.room_version, row.event_id, row.depth),
            user_id,
            visibility=_setting(of_event.get(_VISIBILITY)),
            membership=membership.get("membership") if isinstance(membership, dict) else None,
            # In the room by its current state when the event came, or later: of a fork's event, the state before it
            # may lack a join that was there first.
            joined_later=row.position < known[row.room_id].in_until,
        ):
            seen.add(row.event_id)
    return seen


def _before(snapshot: Snapshot, events: Sequence[EventRow], user_id: str) -> dict[tuple[str, int], dict[str, object]]:
    """Contents of the visibility and of the user's member event, by type, in the states before these events."""
    wanted = sorted({(event.room_id, event.state_before) for event in events if event.state_before})
    if not wanted:
        return {}
    found: dict[tuple[str, int], dict[str, object]] = {}
    params = ([room_id for room_id, _ in wanted], [state_id for _, state_id in wanted], user_id)
    for room_id, state_id, event_type, text in snapshot.rows(_BEFORE_SQL, params):
        found.setdefault((restore(room_id), state_id), {})[event_type] = loads(restore(text)).get("content")
    return found


def _setting(content: object) -> HistoryVisibility:
    value = content.get("history_visibility") if isinstance(content, dict) else None
    known = isinstance(value, str) and value in frozenset(HistoryVisibility)
    return HistoryVisibility(value) if known and isinstance(value, str) else HistoryVisibility.SHARED

"""Unread counts: how many events since a user's read receipt notify, by the user's push rules.

Computed from the tables alone, so that no restart changes them. At most UNREAD_MAX events a room are looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.power_levels import PowerLevels
from annals.matrix.push_conditions import Occasion
from annals.matrix.push_rules import CompiledRuleset, compile_ruleset, full_ruleset
from annals.projectors.rooms.read import shown_event
from annals.queries.client_events import VISIBLE
from annals.queries.room_facts import RoomFacts

UNREAD_MAX = 100
_JUDGEMENTS_KEPT = 50_000

# Unread: behind the newest event that a receipt of the user names; without one, behind the user's latest coming.
_UNREAD_SQL = f"""
    WITH low AS (
        SELECT w.room_id, COALESCE(
            (SELECT max(e.position) FROM receipts r JOIN events e ON e.room_id = r.room_id AND e.event_id = r.event_id
             WHERE r.room_id = w.room_id AND r.user_id = %s AND r.receipt_type IN ('m.read', 'm.read.private')),
            (SELECT max(own.position) FROM (
                SELECT d.position, d.membership, lag(d.membership) OVER (ORDER BY d.position, d.ordinal) AS before
                FROM current_state_deltas d
                WHERE d.room_id = w.room_id AND d.type = 'm.room.member' AND d.state_key = %s) AS own
             WHERE own.membership = 'join' AND own.before IS DISTINCT FROM 'join'), 0) AS position
        FROM unnest(%s::text[]) AS w(room_id)
    )
    SELECT e.room_id, e.event_id, e.room_version, e.client_json, e.depth
    FROM low CROSS JOIN LATERAL (
        SELECT * FROM events e
        WHERE e.room_id = low.room_id AND e.position > low.position AND e.sender <> %s
            AND {VISIBLE} AND NOT e.backfilled AND e.redacted_by IS NULL
        ORDER BY e.position LIMIT {UNREAD_MAX}
    ) AS e
"""


@dataclass(frozen=True, slots=True)
class Unread:
    """What a client shows beside a room."""

    notifications: int = 0
    highlights: int = 0


@dataclass(frozen=True, slots=True)
class UnreadEvent:
    """An event that a user has not read."""

    event_id: str
    room_version: str
    client_json: str
    depth: int


def unread_events(snapshot: Snapshot, room_ids: Sequence[str], user_id: str) -> dict[str, list[UnreadEvent]]:
    """The events that the user has not read, by room id; rooms without any are left out."""
    found: dict[str, list[UnreadEvent]] = {}
    if room_ids:
        for room_id, *row in snapshot.rows(_UNREAD_SQL, (user_id, user_id, list(room_ids), user_id)):
            found.setdefault(restore(room_id), []).append(UnreadEvent(restore(row[0]), *row[1:]))
    return found


def unread_count(events: Sequence[UnreadEvent], facts: RoomFacts | None, user_id: str) -> Unread:
    """How many of a room's unread events notify the user."""
    if not events or facts is None:
        return Unread()
    # Judgements depend on these; the text of an event never changes.
    basis = (user_id, facts.create_json, facts.levels_json, facts.levels_redacted, facts.own_json, min(facts.joined, 3))
    room = None
    notifications = highlights = 0
    for unread in events:
        judged = _judgements.get((unread.event_id, basis))
        if judged is None:
            room = room or _Room.of(facts)
            judged = _judge(unread, room, user_id)
            _judgements.put((unread.event_id, basis), judged)
        notifications += judged[0]
        highlights += judged[0] and judged[1]
    return Unread(notifications, highlights)


@dataclass(frozen=True, slots=True)
class _Room:
    """What push rules ask of a room."""

    levels: PowerLevels
    member_count: int
    notification_levels: Mapping[str, object]
    display_name: str | None

    @classmethod
    def of(cls, facts: RoomFacts) -> _Room:
        create, levels = (
            shown_event(restore(text), facts.room_version, "", redacted=redacted)
            if text and facts.room_version
            else None
            for text, redacted in ((facts.create_json, False), (facts.levels_json, bool(facts.levels_redacted)))
        )
        of_notifications = levels.content.get("notifications") if levels else None
        content = loads(restore(facts.own_json)).get("content", {}) if facts.own_json else {}
        name = content.get("displayname")
        return cls(
            PowerLevels.of(create, levels),
            facts.joined,
            of_notifications if isinstance(of_notifications, dict) else {},
            name if isinstance(name, str) else None,
        )


class _Judgements:
    """The latest judgements of push rules, which are pure: (notify, highlight)."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, tuple[bool, bool]] = OrderedDict()

    def get(self, key: object) -> tuple[bool, bool] | None:
        return self._kept.get(key)

    def put(self, key: object, judged: tuple[bool, bool]) -> None:
        self._kept[key] = judged
        if len(self._kept) > _JUDGEMENTS_KEPT:
            self._kept.popitem(last=False)


_judgements = _Judgements()


def _judge(unread: UnreadEvent, room: _Room, user_id: str) -> tuple[bool, bool]:
    event = shown_event(restore(unread.client_json), unread.room_version, unread.event_id, unread.depth)
    level = room.levels.user(event.sender)
    occasion = Occasion(event, room.member_count, level, room.notification_levels, room.display_name)
    actions = _ruleset(user_id).evaluate(occasion)
    return bool(actions.notify), bool(actions.highlight)


@lru_cache(maxsize=1_000)
def _ruleset(user_id: str) -> CompiledRuleset:
    return compile_ruleset(user_id, full_ruleset(user_id, {}, {}))

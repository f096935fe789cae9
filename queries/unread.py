"""Unread counts: how many events since a user's read receipt notify, by the user's push rules.

Computed from the tables alone, so that no restart changes them. At most UNREAD_MAX events a room are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.events import Event, event_of
from annals.matrix.power_levels import PowerLevels
from annals.matrix.push_conditions import Occasion
from annals.matrix.push_rules import CompiledRuleset, compile_ruleset, full_ruleset
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.queries.client_events import VISIBLE

UNREAD_MAX = 100

# Unread: behind the newest event that a receipt of the user names; without one, behind the user's latest join.
_UNREAD_SQL = f"""
    WITH low AS (
        SELECT w.room_id, COALESCE(
            (SELECT max(e.position) FROM receipts r JOIN events e ON e.room_id = r.room_id AND e.event_id = r.event_id
             WHERE r.room_id = w.room_id AND r.user_id = %s AND r.receipt_type IN ('m.read', 'm.read.private')),
            (SELECT max(d.position) FROM current_state_deltas d
             WHERE d.room_id = w.room_id AND d.type = 'm.room.member' AND d.state_key = %s), 0) AS position
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
_CONTEXT_SQL = """
    SELECT w.room_id, create_.client_json, levels.client_json, own.client_json, create_.room_version,
        (SELECT count(*) FROM current_state cs
         WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.membership = 'join')
    FROM unnest(%s::text[]) AS w(room_id)
    LEFT JOIN LATERAL (SELECT e.client_json, e.room_version
        FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE cs.room_id = w.room_id AND cs.type = 'm.room.create' AND cs.state_key = '') AS create_ ON TRUE
    LEFT JOIN LATERAL (SELECT e.client_json FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE cs.room_id = w.room_id AND cs.type = 'm.room.power_levels' AND cs.state_key = '') AS levels ON TRUE
    LEFT JOIN LATERAL (SELECT e.client_json FROM current_state cs JOIN events e USING (room_id, event_id)
        WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key = %s) AS own ON TRUE
"""


@dataclass(frozen=True, slots=True)
class Unread:
    """What a client shows beside a room."""

    notifications: int = 0
    highlights: int = 0


@dataclass(frozen=True, slots=True)
class _Room:
    """What push rules ask of a room."""

    levels: PowerLevels
    member_count: int
    display_name: str | None


def unread_counts(snapshot: Snapshot, room_ids: Sequence[str], user_id: str) -> dict[str, Unread]:
    """The counts of each of these rooms."""
    counts = dict.fromkeys(room_ids, Unread())
    rows = snapshot.rows(_UNREAD_SQL, (user_id, user_id, list(room_ids), user_id))
    if not rows:
        return counts
    rules = _ruleset(user_id)
    rooms = _rooms(snapshot, sorted({restore(row[0]) for row in rows}), user_id)
    for room_id, event in _events(rows):
        room = rooms[room_id]
        notification_levels = room.levels.event.content.get("notifications") if room.levels.event else None
        occasion = Occasion(
            event,
            room.member_count,
            room.levels.user(event.sender),
            notification_levels if isinstance(notification_levels, dict) else {},
            room.display_name,
        )
        actions = rules.evaluate(occasion)
        if actions.notify:
            before = counts[room_id]
            counts[room_id] = Unread(before.notifications + 1, before.highlights + actions.highlight)
    return counts


@lru_cache(maxsize=1_000)
def _ruleset(user_id: str) -> CompiledRuleset:
    return compile_ruleset(user_id, full_ruleset(user_id, {}, {}))


def _events(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, Event]]:
    for room_id, event_id, version, text, depth in rows:
        yield restore(room_id), _event(text, version, restore(event_id), depth)


def _event(text: str, version: str, event_id: str, depth: int = 0) -> Event:
    pdu = {**loads(restore(text)), "prev_events": [], "auth_events": [], "depth": depth}
    return event_of(pdu, ROOM_VERSIONS[version], event_id)


def _rooms(snapshot: Snapshot, room_ids: Sequence[str], user_id: str) -> dict[str, _Room]:
    found = {}
    for room_id, create, levels, own, version, members in snapshot.rows(_CONTEXT_SQL, (list(room_ids), user_id)):
        create_event = _event(create, version, "") if create else None
        levels_event = _event(levels, version, "") if levels and version else None
        content = loads(restore(own)).get("content", {}) if own else {}
        name = content.get("displayname")
        found[restore(room_id)] = _Room(
            PowerLevels.of(create_event, levels_event), members, name if isinstance(name, str) else None
        )
    return found

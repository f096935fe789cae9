"""What goes with the timelines of a /sync: account data, receipts, summaries, the stripped state of invites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.queries.plain import plain
from annals.queries.sync.filters import EventFilter
from annals.queries.sync.token import SyncToken

HEROES_MAX = 5

_ACCOUNT_DATA_SQL = """
    SELECT room_id, type, content FROM account_data WHERE user_id = %s AND position >= %s ORDER BY room_id, type
"""
_RECEIPTS_SQL = """
    SELECT r.room_id, r.event_id, r.receipt_type, r.user_id, r.thread_id, r.ts_ms
    FROM receipts r
    WHERE r.room_id = ANY (%s) AND (r.receipt_type = 'm.read' OR r.user_id = %s)
        AND (r.room_id = ANY (%s) OR EXISTS (
            SELECT 1 FROM unnest(%s::smallint[], %s::bigint[]) AS w(partition, low)
            WHERE w.partition = r.partition AND r.position >= w.low))
    ORDER BY r.room_id, r.event_id, r.receipt_type, r.user_id, r.thread_id
"""
_COUNTS_SQL = """
    SELECT room_id, membership, count(*) FROM current_state
    WHERE room_id = ANY (%s) AND type = 'm.room.member' AND membership IN ('join', 'invite')
    GROUP BY room_id, membership
"""
# "The users which can be used to generate a room name": the first five by their member events, the user left out.
_HEROES_SQL = """
    SELECT w.room_id, h.state_key FROM unnest(%s::text[]) AS w(room_id)
    CROSS JOIN LATERAL (
        SELECT cs.state_key, cs.position FROM current_state cs
        WHERE cs.room_id = w.room_id AND cs.type = 'm.room.member' AND cs.state_key <> %s
            AND cs.membership IS NOT NULL
        ORDER BY cs.membership NOT IN ('join', 'invite'), cs.position, cs.state_key LIMIT 5
    ) AS h ORDER BY w.room_id, h.position, h.state_key
"""
# "Suggested: create, name, avatar, topic, join rules, canonical alias, encryption", and who is meant by whom.
_STRIPPED_SQL = """
    SELECT e.room_id, e.type, e.state_key, e.sender, e.client_json
    FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
    JOIN events own ON own.room_id = w.room_id AND own.event_id = w.event_id
    JOIN current_state cs ON cs.room_id = w.room_id AND (
        (cs.state_key = '' AND cs.type = ANY (%s))
        OR (cs.type = 'm.room.member' AND cs.state_key IN (own.sender, own.state_key)))
    JOIN events e ON e.room_id = cs.room_id AND e.event_id = cs.event_id
    ORDER BY e.room_id, e.position, e.event_id
"""
_STRIPPED_TYPES = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
]


def account_data(
    snapshot: Snapshot, user_id: str, low: int, of_user: EventFilter, of_rooms: EventFilter
) -> dict[str, list[dict[str, Any]]]:
    """Account data set from a stream position on, by room id ("" for that of no room)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for room_id, event_type, content in snapshot.rows(_ACCOUNT_DATA_SQL, (user_id, low)):
        room_id, event_type = restore(room_id), restore(event_type)
        wanted = of_rooms if room_id else of_user
        if wanted.takes_type(event_type):
            event = {"type": event_type, "content": orjson.Fragment(plain(content))}
            found.setdefault(room_id, []).append(event)
    return found


def receipts(
    snapshot: Snapshot, room_ids: Sequence[str], whole: Sequence[str], since: SyncToken | None, user_id: str
) -> dict[str, dict[str, Any]]:
    """The m.receipt event of each room: receipts new to the token, all of them in `whole` rooms."""
    partitions, bounds = since.receipt_bounds() if since else ([], [])
    found: dict[str, dict[str, Any]] = {}
    rows = snapshot.rows(_RECEIPTS_SQL, (list(room_ids), user_id, list(whole), partitions, bounds))
    for room_id, event_id, receipt_type, reader, thread_id, ts_ms in rows:
        content = found.setdefault(restore(room_id), {})
        receipt: dict[str, Any] = {"ts": ts_ms}
        if thread_id:
            receipt["thread_id"] = restore(thread_id)
        content.setdefault(restore(event_id), {}).setdefault(receipt_type, {})[restore(reader)] = receipt
    return {room_id: {"type": "m.receipt", "content": content} for room_id, content in found.items()}


def summaries(snapshot: Snapshot, room_ids: Sequence[str], user_id: str) -> dict[str, dict[str, Any]]:
    """How many are in each room, and after whom it can be named."""
    found: dict[str, dict[str, Any]] = {
        room_id: {"m.joined_member_count": 0, "m.invited_member_count": 0, "m.heroes": []} for room_id in room_ids
    }
    names = {"join": "m.joined_member_count", "invite": "m.invited_member_count"}
    for room_id, membership, count in snapshot.rows(_COUNTS_SQL, (list(room_ids),)):
        found[restore(room_id)][names[membership]] = count
    for room_id, hero in snapshot.rows(_HEROES_SQL, (list(room_ids), user_id)):
        found[restore(room_id)]["m.heroes"].append(restore(hero))
    return found


def stripped_state(snapshot: Snapshot, own_events: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """What somebody invited (or knocking) may know of each room; `own_events`: room id → the user's member event."""
    rows = snapshot.rows(_STRIPPED_SQL, (list(own_events), list(own_events.values()), _STRIPPED_TYPES))
    found: dict[str, list[dict[str, Any]]] = {}
    for room_id, event_type, state_key, sender, text in rows:
        event = {
            "type": restore(event_type),
            "state_key": restore(state_key),
            "sender": restore(sender),
            "content": loads(restore(text)).get("content", {}),
        }
        found.setdefault(restore(room_id), []).append(event)
    return found

"""What goes with the timelines of a /sync: account data, receipts, summaries, the stripped state of invites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.eventlog.partition import partition_of
from annals.matrix.canonical_json import loads
from annals.matrix.push_default_rules import default_ruleset
from annals.matrix.redaction import redact_content
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.queries.plain import plain
from annals.queries.sync.request import SyncRequest
from annals.queries.sync.rooms import SyncRoom
from annals.queries.sync.token import SyncToken
from annals.schemas.position import step_start

_ACCOUNT_DATA_SQL = """
    SELECT a.room_id, a.type, a.content, NULL::text, NULL::text, NULL::text, NULL::bigint
    FROM account_data a WHERE a.user_id = %s AND a.position >= %s
"""
# A user's private receipts are for that user alone.
_RECEIPTS_SQL = """
    SELECT r.room_id, r.receipt_type, NULL::bytea, r.event_id, r.user_id, r.thread_id, r.ts_ms
    FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, low)
    JOIN receipts r ON r.room_id = w.room_id AND r.position >= w.low
    WHERE r.receipt_type = 'm.read' OR r.user_id = %s
"""
# "Suggested: create, name, avatar, topic, join rules, canonical alias, encryption", and who is meant by whom.
_STRIPPED_SQL = """
    SELECT e.room_id, e.type, e.state_key, e.sender, e.client_json, e.room_version, e.redacted_by IS NOT NULL
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


@dataclass(slots=True)
class Extras:
    """What users told the server beside events. By room id; account data of no room under ""."""

    account_data: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    #: the content of each room's m.receipt event
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: rooms in which the user read on
    read_on: set[str] = field(default_factory=set)


def extras(snapshot: Snapshot, request: SyncRequest, token: SyncToken, rooms: Sequence[SyncRoom]) -> Extras:
    """Account data and receipts that are new to the request's token; `token` is the answer's."""
    found = Extras()
    user_id = request.viewer.user_id
    if request.since is None and request.filter.account_data.takes_type("m.push_rules"):
        # The predefined rules, which cannot be changed yet.
        rules = {"type": "m.push_rules", "content": {"global": default_ruleset(user_id)}}
        found.account_data[""] = [rules]
    selects: list[str] = []
    params: list[Any] = []
    low = _account_data_low(request, token)
    if low is not None:
        selects.append(_ACCOUNT_DATA_SQL)
        params += [user_id, low]
    if lows := _receipt_lows(request, token, rooms):
        selects.append(_RECEIPTS_SQL)
        params += [list(lows), list(lows.values()), user_id]
    if selects:
        for row in snapshot.rows(" UNION ALL ".join(selects) + " ORDER BY 1, 2, 4, 5, 6", params):
            _collect(found, row, request)
    return found


def _account_data_low(request: SyncRequest, token: SyncToken) -> int | None:
    """The lowest new stream position of the user's account data; None where there is nothing new."""
    since = request.since
    if since is None:
        return 0
    partition = partition_of(request.viewer.user_id, len(token.users))
    low = since.users[partition]
    return step_start(low) if low != token.users[partition] else None


def _receipt_lows(request: SyncRequest, token: SyncToken, rooms: Sequence[SyncRoom]) -> dict[str, int]:
    """The lowest new stream position of the receipts of each room that may have new ones."""
    lows = {}
    for room in rooms:
        if room.membership != "join" or not request.filter.ephemeral.takes_room(room.room_id):
            continue
        if request.since is None or room.fresh:
            lows[room.room_id] = 0
            continue
        partition = partition_of(room.room_id, len(token.receipts))
        low = request.since.receipts[partition]
        if low != token.receipts[partition]:
            lows[room.room_id] = step_start(low)
    return lows


def _collect(found: Extras, row: Sequence[Any], request: SyncRequest) -> None:
    room_id, kind, content, event_id, reader, thread_id, ts_ms = row
    room_id, kind, wanted = restore(room_id), restore(kind), request.filter
    if content is not None:
        of_kind = wanted.room_account_data if room_id else wanted.account_data
        if of_kind.takes_type(kind) and (not room_id or of_kind.takes_room(room_id)):
            event = {"type": kind, "content": orjson.Fragment(plain(content))}
            found.account_data.setdefault(room_id, []).append(event)
        return
    reader = restore(reader)
    if reader == request.viewer.user_id:
        found.read_on.add(room_id)
    if wanted.ephemeral.takes_type("m.receipt"):
        receipt: dict[str, Any] = {"ts": ts_ms}
        if thread_id:
            receipt["thread_id"] = restore(thread_id)
        of_event = found.receipts.setdefault(room_id, {}).setdefault(restore(event_id), {})
        of_event.setdefault(kind, {})[reader] = receipt


def stripped_state(snapshot: Snapshot, own_events: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """What somebody invited (or knocking) may know of each room; `own_events`: room id → the user's member event."""
    if not own_events:
        return {}
    rows = snapshot.rows(_STRIPPED_SQL, (list(own_events), list(own_events.values()), _STRIPPED_TYPES))
    found: dict[str, list[dict[str, Any]]] = {}
    for room_id, event_type, state_key, sender, text, version, redacted in rows:
        content = loads(restore(text)).get("content", {})
        if redacted:
            content = redact_content(restore(event_type), content, ROOM_VERSIONS[version].redaction)
        event = {
            "type": restore(event_type),
            "state_key": restore(state_key),
            "sender": restore(sender),
            "content": content,
        }
        found.setdefault(restore(room_id), []).append(event)
    return found

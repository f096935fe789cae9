"""Loading headers of rooms, events, and the first facts of idempotency keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from annals.database.text import restore
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.event_json import join_event
from annals.projectors.rooms.found import Found, Reads, columns_of, names_of
from annals.rooms.needs import FirstOfKey, StoredEvent, StoredHeader

EVENT_COLUMNS = (
    "e.room_id, e.event_id, e.room_version, e.client_json, e.federation_json, e.verdict, e.outlier, e.backfilled, "
    "e.provisional, e.source, e.position, e.state_before, e.state_after, e.idempotency_key, e.redacted_by, e.missing"
)

_EVENTS = f"""
SELECT {EVENT_COLUMNS} FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id"""

_HEADERS = """
SELECT w.room_id, r.room_version, r.create_event_id, r.current_state_id, r.min_depth, h.source,
    ARRAY(SELECT x.event_id FROM forward_extremities x WHERE x.room_id = w.room_id ORDER BY x.position, x.event_id),
    ARRAY(SELECT f.source FROM waiting_facts f WHERE f.room_id = w.room_id AND f.source >= h.source ORDER BY f.source),
    ARRAY(SELECT n.event_id FROM wanted n WHERE n.room_id = w.room_id ORDER BY n.event_id),
    ARRAY(SELECT p.redacts FROM pending_redactions p WHERE p.room_id = w.room_id ORDER BY p.position, p.redacts),
    ARRAY(SELECT p.event_id FROM pending_redactions p WHERE p.room_id = w.room_id ORDER BY p.position, p.redacts)
FROM unnest(%s::text[]) AS w(room_id)
LEFT JOIN rooms r ON r.room_id = w.room_id
LEFT JOIN halted_rooms h ON h.room_id = w.room_id"""

_PARKED = f"""
SELECT {EVENT_COLUMNS} FROM events e
WHERE e.room_id = ANY(%s) AND e.verdict = 'parked' ORDER BY e.source"""

_KEYS = """
WITH RECURSIVE line(room_id, wanted, state_id, base_id, n) AS (
    SELECT s.room_id, s.state_id, s.state_id, s.base_id, 0
    FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::bigint[]) AS u(room_id, state_id)) AS w
    JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.room_id, l.wanted, s.state_id, s.base_id, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
)
SELECT DISTINCT ON (w.room_id, w.state_id, w.type, w.state_key)
    w.room_id, w.state_id, w.type, w.state_key, d.event_id
FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[]) AS w(room_id, state_id, type, state_key)
JOIN line l ON l.room_id = w.room_id AND l.wanted = w.state_id
JOIN state_deltas d ON d.room_id = w.room_id AND d.state_id = l.state_id AND d.type = w.type
    AND d.state_key = w.state_key
ORDER BY w.room_id, w.state_id, w.type, w.state_key, l.n"""

_WHOLE_STATES = """
WITH RECURSIVE line(room_id, wanted, state_id, base_id, n) AS (
    SELECT s.room_id, s.state_id, s.state_id, s.base_id, 0
    FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, state_id)
    JOIN states s ON s.room_id = w.room_id AND s.state_id = w.state_id
    UNION ALL
    SELECT l.room_id, l.wanted, s.state_id, s.base_id, l.n + 1
    FROM line l JOIN states s ON s.room_id = l.room_id AND s.state_id = l.base_id
)
SELECT DISTINCT ON (l.room_id, l.wanted, d.type, d.state_key)
    l.room_id, l.wanted, d.type, d.state_key, d.event_id
FROM line l JOIN state_deltas d ON d.room_id = l.room_id AND d.state_id = l.state_id
ORDER BY l.room_id, l.wanted, d.type, d.state_key, l.n"""

_CHANGES = """
SELECT d.room_id, d.state_id, d.type, d.state_key, d.event_id
FROM unnest(%s::text[], %s::bigint[]) AS w(room_id, state_id)
JOIN state_deltas d ON d.room_id = w.room_id AND d.state_id = w.state_id"""

_KEYS = """
SELECT e.room_id, e.idempotency_key, e.source, e.event_id
FROM unnest(%s::text[], %s::text[]) AS w(room_id, idempotency_key)
JOIN events e ON e.room_id = w.room_id AND e.idempotency_key = w.idempotency_key
ORDER BY e.source DESC"""


def load_headers(connection: Reads, room_ids: list[str], answers: Mapping[str, Found]) -> None:
    names = names_of(room_ids)
    parked: defaultdict[str, list[StoredEvent]] = defaultdict(list)
    for row in connection.rows(_PARKED, (sorted(room_ids),)):
        parked[row[0]].append(stored_event(row))
    for row in connection.rows(_HEADERS, (sorted(room_ids),)):
        header = _header(row, tuple(parked.get(row[0], ())))
        answers[names[row[0]]].rooms[names[row[0]]] = header


def _header(row: tuple[Any, ...], parked: tuple[StoredEvent, ...]) -> StoredHeader | None:
    room_id, version, create_event_id, state_id, min_depth, halted_at, extremities, waiting, wanted, *pending = row
    if version is None and halted_at is None and not parked and not wanted:
        return None
    redactions: dict[str, tuple[str, ...]] = {}
    for redacts, event_id in zip(*pending, strict=True):
        redactions[restore(redacts)] = (*redactions.get(restore(redacts), ()), restore(event_id))
    return StoredHeader(
        room_id=restore(room_id),
        room_version=version or "",
        create_event_id=create_event_id and restore(create_event_id),
        extremities=tuple(map(restore, extremities)),
        current_state_id=state_id,
        min_depth=min_depth,
        halted_at=halted_at,
        waiting=tuple(waiting),
        parked=parked,
        wanted=frozenset(map(restore, wanted)),
        pending_redactions=redactions,
    )


def load_events(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for room_id, event_id in wanted:
        answers[room_id].events[room_id, event_id] = None
    for row in connection.rows(_EVENTS, columns_of(wanted)):
        event = stored_event(row)
        answers[event.room_id].events[event.room_id, event.event_id] = event


def stored_event(row: tuple[Any, ...]) -> StoredEvent:
    """The event of a row of `EVENT_COLUMNS`."""
    room_id, event_id, version, client_json, federation_json, verdict, outlier, backfilled, provisional = row[:9]
    source, position, before, after, key, redacted_by, missing = row[9:]
    return StoredEvent(
        room_id=restore(room_id),
        event_id=restore(event_id),
        room_version=version,
        pdu=canonical_bytes(join_event(client_json, federation_json, ROOM_VERSIONS[version])),
        verdict=verdict,
        outlier=outlier,
        backfilled=backfilled,
        provisional=provisional,
        source=source,
        position=position,
        state_before=before,
        state_after=after,
        idempotency_key=key and restore(key),
        redacted_by=redacted_by and restore(redacted_by),
        missing=tuple(map(restore, missing or ())),
    )


def load_keys(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for room_id, key in wanted:
        answers[room_id].keys[room_id, key] = None
    names = names_of(text for pair in wanted for text in pair)
    # The first one comes last, and stays.
    for stored_room, stored_key, source, event_id in connection.rows(_KEYS, columns_of(wanted)):
        room_id, key = names[stored_room], names[stored_key]
        answers[room_id].keys[room_id, key] = FirstOfKey(source, restore(event_id))

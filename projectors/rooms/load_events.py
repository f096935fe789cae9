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
from annals.rooms.needs import FirstOfKey, OpenHandshake, StoredEvent, StoredHeader
from annals.rooms.out_of_band import OUT_OF_BAND

EVENT_COLUMNS = (
    "e.room_id, e.event_id, e.room_version, e.client_json, e.federation_json, e.verdict, e.outlier, e.backfilled, "
    "e.provisional, e.source, e.position, e.state_before, e.state_after, e.idempotency_key, e.redacted_by, e.missing, "
    "e.reason"
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
    ARRAY(SELECT p.event_id FROM pending_redactions p WHERE p.room_id = w.room_id ORDER BY p.position, p.redacts),
    ARRAY(SELECT q.source FROM queued_facts q WHERE q.room_id = w.room_id ORDER BY q.source),
    ARRAY(SELECT ARRAY[s.handshake_id, s.kind, s.user_id, s.attached_to, CASE WHEN s.holds_queue THEN 'queue' END]
        FROM handshakes s WHERE s.room_id = w.room_id AND s.outcome IS NULL ORDER BY s.source, s.handshake_id),
    ARRAY(SELECT unnest(j.missing) FROM events j
        WHERE j.room_id = w.room_id AND j.missing IS NOT NULL AND j.verdict = 'accepted')
FROM unnest(%s::text[]) AS w(room_id)
LEFT JOIN rooms r ON r.room_id = w.room_id
LEFT JOIN halted_rooms h ON h.room_id = w.room_id"""

_PARKED = f"""
SELECT {EVENT_COLUMNS} FROM events e
WHERE e.room_id = ANY(%s) AND e.verdict = 'parked' ORDER BY e.source"""

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
    room_id, version, create_event_id, state_id, min_depth, halted_at, extremities, waiting, wanted = row[:9]
    *pending, queued, handshakes, entered_after = row[9:]
    if version is None and halted_at is None and not parked and not wanted and not handshakes and not queued:
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
        handshakes=tuple(map(_handshake, handshakes)),
        queued=tuple(queued),
        entered_after=frozenset(map(restore, entered_after)),
    )


def _handshake(columns: list[str | None]) -> OpenHandshake:
    handshake_id, kind, user_id, attached_to, queue = (None if text is None else restore(text) for text in columns)
    return OpenHandshake(handshake_id or "", kind or "", user_id or "", attached_to, queue is not None)


def load_events(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for room_id, event_id in wanted:
        answers[room_id].events[room_id, event_id] = None
    for row in connection.rows(_EVENTS, columns_of(wanted)):
        event = stored_event(row)
        answers[event.room_id].events[event.room_id, event.event_id] = event


def stored_event(row: tuple[Any, ...]) -> StoredEvent:
    """The event of a row of `EVENT_COLUMNS`."""
    room_id, event_id, version, client_json, federation_json, verdict, outlier, backfilled, provisional = row[:9]
    source, position, before, after, key, redacted_by, missing, reason = row[9:]
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
        out_of_band=reason == OUT_OF_BAND,
    )


def load_keys(connection: Reads, wanted: Collection[tuple[str, str]], answers: Mapping[str, Found]) -> None:
    for room_id, key in wanted:
        answers[room_id].keys[room_id, key] = None
    names = names_of(text for pair in wanted for text in pair)
    # The first one comes last, and stays.
    for stored_room, stored_key, source, event_id in connection.rows(_KEYS, columns_of(wanted)):
        room_id, key = names[stored_room], names[stored_key]
        answers[room_id].keys[room_id, key] = FirstOfKey(source, restore(event_id))

"""Events as clients are shown them: read with what belongs into `unsigned`, redacted where they were redacted.

An event of the tables is one ready JSON text, so that showing it needs no parsing: only `unsigned` is put at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.events import event_of
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.matrix.transactions import transaction_of
from annals.projectors.rooms.read import join_event, split_event

#: What is shown of a room's timeline; the condition of the index `events_visible`.
VISIBLE = "e.verdict = 'accepted' AND NOT e.outlier"

COLUMNS = """
    e.room_id, e.event_id, e.position, e.type, e.state_key, e.sender, e.depth, e.origin_server_ts, e.client_json,
    e.idempotency_key, e.state_before, e.replaces, e.redacted_by, e.room_version,
    CASE WHEN e.redacted_by IS NULL THEN NULL ELSE e.federation_json END, redaction.client_json,
    replaced.client_json, CASE WHEN replaced.redacted_by IS NULL THEN NULL ELSE replaced.federation_json END
"""
JOINS = """
    LEFT JOIN events redaction ON redaction.room_id = e.room_id AND redaction.event_id = e.redacted_by
    LEFT JOIN events replaced ON replaced.room_id = e.room_id AND replaced.event_id = e.replaces
"""
COLUMN_COUNT = 18


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of COLUMNS; strings restored where anything but showing them needs it."""

    room_id: str
    event_id: str
    position: int
    type: str
    state_key: str | None
    sender: str
    depth: int
    origin_server_ts: int
    client_json: str
    idempotency_key: str | None
    state_before: int | None
    replaces: str | None
    redacted_by: str | None
    room_version: str
    federation_json: str | None
    redaction_json: str | None
    replaced_json: str | None
    replaced_federation_json: str | None


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, and when (milliseconds since 1970)."""

    user_id: str
    device_id: str | None
    now_ms: int


def event_row(row: Sequence[Any]) -> EventRow:
    """The row of an event, from a query that selects COLUMNS first."""
    values = list(row[:COLUMN_COUNT])
    for index in (0, 1, 3, 4, 5):
        if values[index] is not None:
            values[index] = restore(values[index])
    return EventRow(*values)


def shown(row: EventRow, viewer: Viewer) -> bytes:
    """The event as JSON for a client, `unsigned` included."""
    unsigned: dict[str, Any] = {"age": max(0, viewer.now_ms - row.origin_server_ts)}
    if row.idempotency_key is not None and row.sender == viewer.user_id:
        transaction_id = transaction_of(restore(row.idempotency_key), viewer.user_id, viewer.device_id)
        if transaction_id is not None:
            unsigned["transaction_id"] = transaction_id
    if row.replaces is not None and row.replaced_json is not None:
        _add_replaced(unsigned, row)
    text = client_text(row)
    if row.redacted_by is not None and row.redaction_json is not None:
        unsigned["redacted_because"] = orjson.Fragment(restore(row.redaction_json).encode())
    return text[:-1].encode() + b',"unsigned":' + orjson.dumps(unsigned) + b"}"


def client_text(row: EventRow) -> str:
    """The event as clients get it, without `unsigned`; redacted where it was."""
    if row.federation_json is None:
        return restore(row.client_json)
    return redacted_text(row.client_json, row.federation_json, row.room_version, row.event_id)


def redacted_text(client_json: str, federation_json: str, room_version: str, event_id: str) -> str:
    """The client's form of an event whose content was taken away."""
    rules = ROOM_VERSIONS[room_version]
    pdu = join_event(restore(client_json), restore(federation_json), rules)
    return split_event(event_of(redact(pdu, rules), rules, event_id))[0]


def _add_replaced(unsigned: dict[str, Any], row: EventRow) -> None:
    """Spec 1.19, `replaces_state` and `prev_content`: what held the key before, as recorded when it was decided."""
    text = row.replaced_json or "{}"
    if row.replaced_federation_json is not None and row.replaces is not None:
        text = redacted_text(text, row.replaced_federation_json, row.room_version, row.replaces)
    replaced = loads(restore(text))
    unsigned["replaces_state"] = restore(row.replaces or "")
    unsigned["prev_content"] = replaced.get("content", {})
    unsigned["prev_sender"] = replaced.get("sender")

"""Events as their rows have them, for what is served to other servers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.queries.federation.pdus import SERVED_SQL, wire_pdu

COLUMNS = """
    e.room_id, e.event_id, e.type, e.state_key, e.depth, e.position, e.origin_server_ts, e.verdict, e.state_before,
    e.room_version, e.client_json, e.federation_json, e.redacted_by IS NOT NULL
"""
#: What may be served by its id: all that stands in the room's DAG; of outliers the state that it cites.
SERVABLE = f"e.verdict IN ({SERVED_SQL}) AND (NOT e.outlier OR e.verdict = 'accepted' AND e.state_key IS NOT NULL)"

_EVENTS_SQL = f"SELECT {COLUMNS} FROM events e WHERE e.room_id = %s AND e.event_id = ANY (%s) AND {SERVABLE}"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A row of COLUMNS. The JSON texts as stored, but restored."""

    room_id: str
    event_id: str
    type: str
    state_key: str | None
    depth: int
    position: int
    origin_server_ts: int
    verdict: str
    state_before: int | None
    room_version: str
    client_json: str
    federation_json: str
    redacted: bool

    def pdu(self, visible: bool = True) -> dict[str, Any]:
        """The PDU; redacted where it may not be seen."""
        found = wire_pdu(self.room_version, self.client_json, self.federation_json, self.redacted)
        return found if visible else redact(found, ROOM_VERSIONS[self.room_version])


def stored_event(row: Sequence[Any]) -> StoredEvent:
    """The event of a row that begins with COLUMNS."""
    values = list(row[:13])
    for index in (0, 1, 2, 3, 10, 11):
        if values[index] is not None:
            values[index] = restore(values[index])
    return StoredEvent(*values)


def stored_events(snapshot: Snapshot, room_id: str, event_ids: Collection[str]) -> dict[str, StoredEvent]:
    """Those of these events that are in the room and may be served, by id."""
    if not event_ids:
        return {}
    found = map(stored_event, snapshot.rows(_EVENTS_SQL, (room_id, list(event_ids))))
    return {event.event_id: event for event in found}

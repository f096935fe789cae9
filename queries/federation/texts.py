"""PDUs as JSON texts, for answers of many: they go from the rows into the answer without being parsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import canonical_bytes
from annals.matrix.room_versions import ROOM_VERSIONS, EventIdFormat
from annals.queries.federation.pdus import SERVED_SQL, wire_pdu

_PAGE = 2_000
_PDUS_SQL = f"""
    SELECT event_id, type, room_version, client_json, federation_json, redacted_by IS NOT NULL
    FROM events WHERE room_id = %s AND event_id = ANY (%s) AND verdict IN ({SERVED_SQL})
    ORDER BY event_id
"""


def array_of(texts: Iterable[bytes]) -> bytes:
    """A JSON array of JSON texts."""
    return b"[" + b",".join(texts) + b"]"


def pdu_texts(snapshot: Snapshot, room_id: str, event_ids: Sequence[str]) -> Iterable[bytes]:
    """Those of these events that are in the room and may be served, as on the wire, ordered by event id: the same
    request gets the same answer."""
    ordered = sorted(event_ids)
    for start in range(0, len(ordered), _PAGE):
        for row in snapshot.rows(_PDUS_SQL, (room_id, ordered[start : start + _PAGE])):
            yield _text(*row)


def _text(
    event_id: str, event_type: str, room_version: str, client_json: str, federation_json: str, redacted: bool
) -> bytes:
    """The PDU's JSON. The two texts are put together as they are where that gives the event (projectors/rooms/
    event_json): of an event with a hash for an id, no other key can hold that id, nor stand before the content."""
    rules = ROOM_VERSIONS[room_version]
    named = f',"event_id":"{event_id}"'
    hashed = rules.event_id_format is not EventIdFormat.CHOSEN_BY_SENDER
    plain = hashed and not redacted and event_type not in ("m.room.create", "m.room.redaction")
    if not plain or client_json.count(named) != 1 or restore(federation_json) != federation_json:
        return canonical_bytes(wire_pdu(room_version, client_json, federation_json, redacted))
    client = restore(client_json).replace(named, "", 1)
    return f"{client[:-1]},{federation_json[1:]}".encode()

"""PDUs as other servers get them, states by their ids, and auth chains; set-wise, one query each.

A PDU is given back exactly as it came, unless it was redacted: then redacted by the rules of its own room version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.read import join_event, whole_state

StateKey = tuple[str, str]

#: Verdicts of events that other servers may be given. A rejected one may be the prev event of one that was not: who
#: asks for it by its id must get it (docs/decisions/0011). What is parked or pending is not judged yet, and what was
#: dropped never was in the room.
SERVED = ("accepted", "soft_failed", "rejected")
SERVED_SQL = ", ".join(f"'{verdict}'" for verdict in SERVED)

_PDUS_SQL = f"""
    SELECT e.event_id, e.room_version, e.client_json, e.federation_json, e.redacted_by IS NOT NULL
    FROM events e WHERE e.room_id = %s AND e.event_id = ANY (%s) AND e.verdict IN ({SERVED_SQL})
"""
_CURRENT_SQL = "SELECT type, state_key, event_id FROM current_state WHERE room_id = %s"
_BEFORE_SQL = f"""
    SELECT e.state_before FROM events e
    WHERE e.room_id = %s AND e.event_id = %s AND NOT e.outlier AND e.verdict IN ({SERVED_SQL})
"""
# OFFSET 0 keeps each step a look-up by key: planned as a join of tables it might read the whole room at every level.
_AUTH_CHAIN_SQL = f"""
    WITH RECURSIVE chain(event_id) AS (
        SELECT a.event_id FROM events e CROSS JOIN LATERAL unnest(e.auth_events) AS a(event_id)
        WHERE e.room_id = %s AND e.event_id = ANY (%s) AND e.verdict IN ({SERVED_SQL})
        UNION
        SELECT a.event_id FROM chain c
        CROSS JOIN LATERAL (
            SELECT e.auth_events FROM events e WHERE e.room_id = %s AND e.event_id = c.event_id OFFSET 0
        ) AS cited
        CROSS JOIN LATERAL unnest(cited.auth_events) AS a(event_id)
    )
    SELECT c.event_id FROM chain c
    JOIN events e ON e.room_id = %s AND e.event_id = c.event_id AND e.verdict IN ({SERVED_SQL})
"""
_VERSION_SQL = f"""
    SELECT e.room_version FROM events e
    WHERE e.room_id = %s AND e.event_id = ANY (%s) AND e.verdict IN ({SERVED_SQL}) LIMIT 1
"""


def pdus_by_id(snapshot: Snapshot, room_id: str, event_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Those of these events that are in the room and may be served, as on the wire."""
    if not event_ids:
        return {}
    rows = snapshot.rows(_PDUS_SQL, (room_id, list(event_ids)))
    return {restore(event_id): wire_pdu(*stored) for event_id, *stored in rows}


def pdus_of(snapshot: Snapshot, room_id: str, event_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The same in the order asked for; what is not there is left out."""
    wanted = list(event_ids)
    found = pdus_by_id(snapshot, room_id, wanted)
    return [found[event_id] for event_id in wanted if event_id in found]


def wire_pdu(room_version: str, client_json: str, federation_json: str, redacted: bool) -> dict[str, Any]:
    """The PDU of one row of `events`."""
    rules = ROOM_VERSIONS[room_version]
    pdu = join_event(restore(client_json), restore(federation_json), rules)
    return redact(pdu, rules) if redacted else pdu


def current_state_ids(snapshot: Snapshot, room_id: str) -> dict[StateKey, str]:
    """The room's current state."""
    rows = snapshot.rows(_CURRENT_SQL, (room_id,))
    return {(restore(event_type), restore(state_key)): restore(event_id) for event_type, state_key, event_id in rows}


def state_ids_before(snapshot: Snapshot, room_id: str, event_id: str) -> Mapping[StateKey, str] | None:
    """The state of the room before an event; None where the room has no such event, or no state for it (an outlier)."""
    row = snapshot.one(_BEFORE_SQL, (room_id, event_id))
    if row is None or row[0] is None:
        return None
    return whole_state(snapshot, room_id, row[0])


def auth_chain_ids(snapshot: Snapshot, room_id: str, event_ids: Collection[str]) -> frozenset[str]:
    """What these events of the room cite, and what that cites, and so on.

    From version 12 on the create event is cited by none, and yet belongs to the chain of all others.
    """
    if not event_ids:
        return frozenset()
    rows = snapshot.rows(_AUTH_CHAIN_SQL, (room_id, list(event_ids), room_id, room_id))
    found = {restore(event_id) for (event_id,) in rows}
    create = "$" + room_id[1:]
    others = [event_id for event_id in event_ids if event_id != create]
    version = snapshot.one(_VERSION_SQL, (room_id, others))
    if version is not None and not ROOM_VERSIONS[version[0]].create_cited_in_auth_events:
        found.add(create)
    return frozenset(found)

"""Events as they go over the wire, read set-wise and kept while others wait for the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.egress.reading import Outgoing
from annals.egress.vectors import ROOMS, is_below, tables_end
from annals.matrix.redaction import redact
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.rooms.read import join_event

_KEPT = 2_000

_PDUS_SQL = """
    SELECT e.room_id, e.event_id, e.room_version, e.client_json, e.federation_json, e.redacted_by IS NOT NULL
    FROM unnest(%s::text[], %s::text[]) AS w(room_id, event_id)
    JOIN events e ON e.room_id = w.room_id AND e.event_id = w.event_id
    WHERE e.verdict = 'accepted' AND NOT e.outlier
"""

Key = tuple[str, str]


class TablesBehind(Exception):
    """The tables do not have an event yet that was read from them: they are being built again."""


class Pdus:
    """PDUs by (room, event)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[Key, dict[str, Any]] = OrderedDict()

    def forget(self) -> None:
        """Another generation may not have accepted them."""
        self._kept.clear()

    async def load(self, events: Sequence[Outgoing]) -> dict[Key, dict[str, Any]]:
        """The PDUs of those that are accepted still. Raises TablesBehind, and what a read raises."""
        found = {key: pdu for event in events if (pdu := self._kept.get(key := _key(event))) is not None}
        missing = [event for event in events if _key(event) not in found]
        if missing:
            read = await self._database.read(lambda snapshot: _read(snapshot, missing))
            self._kept.update(read)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            found |= read
        return found


def _key(event: Outgoing) -> Key:
    return event.room_id, event.event_id


def _read(snapshot: Snapshot, events: Sequence[Outgoing]) -> dict[Key, dict[str, Any]]:
    end = tables_end(snapshot.positions, ROOMS)
    if not all(is_below(end, event.partition, event.position) for event in events):
        raise TablesBehind
    names = [event.room_id for event in events], [event.event_id for event in events]
    return {(restore(row[0]), restore(row[1])): _pdu(row) for row in snapshot.rows(_PDUS_SQL, names)}


def _pdu(row: Sequence[Any]) -> dict[str, Any]:
    rules = ROOM_VERSIONS[row[2]]
    pdu = join_event(restore(row[3]), restore(row[4]), rules)
    # Its receivers would have to do so, and shall not be shown what was taken back.
    return redact(pdu, rules) if row[5] else pdu

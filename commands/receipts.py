"""Read receipts, and the marker up to which a user has read."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from annals.commands.errors import Refused
from annals.commands.memberships import require_joined
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.canonical_json import loads
from annals.matrix.identifiers import is_event_id
from annals.projectors.positions.appending import Appender
from annals.schemas.facts.envelope import Fact
from annals.schemas.facts.receipts import ReceiptSet
from annals.schemas.facts.users import AccountDataSet

READ, READ_PRIVATE, FULLY_READ = "m.read", "m.read.private", "m.fully_read"
MAIN_THREAD = "main"
_RELATIONS_MAX = 5

_EVENT_SQL = """
    SELECT position, client_json FROM events
    WHERE room_id = %s AND event_id = %s AND verdict = 'accepted' AND NOT outlier
"""
_RECEIPT_SQL = """
    SELECT e.position FROM receipts r JOIN events e ON e.room_id = r.room_id AND e.event_id = r.event_id
    WHERE r.room_id = %s AND r.user_id = %s AND r.receipt_type = %s AND r.thread_id = %s
"""


@dataclass(frozen=True, slots=True)
class Marker:
    """What a user has read: up to an event, of a thread where `thread_id` is given."""

    receipt_type: str
    event_id: str
    thread_id: str | None = None


class Receipts:
    """Commands on receipts."""

    def __init__(self, appender: Appender, database: Database) -> None:
        self._appender, self._database = appender, database

    async def set(self, user_id: str, room_id: str, markers: list[Marker], cause: str | None = None) -> None:
        """Set these markers. Refused: M_INVALID_PARAM, M_FORBIDDEN, M_NOT_FOUND.

        A receipt that stands at a later event of the room stays where it is.
        """
        for marker in markers:
            check_marker(marker)

        def read(snapshot: Snapshot) -> list[Marker]:
            require_joined(snapshot, room_id, user_id)
            return [marker for marker in markers if _moves(snapshot, room_id, user_id, marker)]

        facts = [self._fact(user_id, room_id, marker, cause) for marker in await self._database.read(read)]
        if facts:
            await self._appender.submit_and_settle(facts)

    def _fact(self, user_id: str, room_id: str, marker: Marker, cause: str | None) -> Fact:
        envelope = self._appender.envelope(cause)
        if marker.receipt_type == FULLY_READ:
            content = orjson.dumps({"event_id": marker.event_id})
            return AccountDataSet(envelope, user_id, room_id, FULLY_READ, content)
        now_ms = self._appender.clock()
        return ReceiptSet(
            envelope, room_id, user_id, marker.receipt_type, marker.event_id, marker.thread_id, now_ms
        )  # fmt: skip


def check_marker(marker: Marker) -> None:
    """Refuse a marker that none can be."""
    if marker.receipt_type not in (READ, READ_PRIVATE, FULLY_READ):
        raise Refused(400, "M_INVALID_PARAM", "Unknown type of receipt")
    if not is_event_id(marker.event_id):
        raise Refused(400, "M_INVALID_PARAM", "Not an event id")
    if marker.thread_id is None:
        return
    if marker.receipt_type == FULLY_READ:
        raise Refused(400, "M_INVALID_PARAM", f"thread_id is not compatible with {FULLY_READ}")
    if marker.thread_id != MAIN_THREAD and not is_event_id(marker.thread_id):
        raise Refused(400, "M_INVALID_PARAM", "thread_id must be main, or the event id of a thread's root")


def _moves(snapshot: Snapshot, room_id: str, user_id: str, marker: Marker) -> bool:
    row = snapshot.one(_EVENT_SQL, (room_id, marker.event_id))
    if row is None:
        raise Refused(404, "M_NOT_FOUND", "There is no such event in this room")
    if marker.receipt_type == FULLY_READ:
        return True
    if marker.thread_id is not None and not _is_in_thread(snapshot, room_id, marker.event_id, marker.thread_id):
        raise Refused(400, "M_INVALID_PARAM", "The event is not part of the thread")
    key = (room_id, user_id, marker.receipt_type, marker.thread_id or "")
    stands = snapshot.one(_RECEIPT_SQL, key)
    return stands is None or bool(stands[0] < row[0])


def _is_in_thread(snapshot: Snapshot, room_id: str, event_id: str, thread_id: str) -> bool:
    """Whether an event, or what it relates to, belongs to a thread. A root belongs to its thread and to `main`."""
    at: str | None = event_id
    for _ in range(_RELATIONS_MAX):
        if at == thread_id:
            return True
        row = snapshot.one(_EVENT_SQL, (room_id, at)) if at is not None else None
        if row is None:
            break
        relation = loads(restore(row[1]))["content"].get("m.relates_to")
        relation = relation if isinstance(relation, dict) else {}
        parent = relation.get("event_id")
        if relation.get("rel_type") == "m.thread":
            return bool(parent == thread_id)
        # A reply that is no relation of another kind stands in the main timeline.
        at = parent if isinstance(parent, str) and "rel_type" in relation else None
    return thread_id == MAIN_THREAD

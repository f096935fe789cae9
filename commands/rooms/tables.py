"""What the builder reads of the tables (outcomes.RoomTables), one snapshot a question."""

from __future__ import annotations

from annals.commands.rooms.outcomes import Outcome, Outcomes
from annals.database.pool import Database
from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.projectors.rooms.read import load
from annals.rooms.needs import Loaded, Needs

# One round trip: what became of each event (or of the one whose key it repeats), the room's head, whether it stands.
_OUTCOMES_SQL = """
    SELECT 'event', w.event_id, d.first_event_id, e.verdict, e.rule, e.reason
    FROM unnest(%s::text[]) AS w(event_id)
    LEFT JOIN duplicates d ON d.room_id = %s AND d.event_id = w.event_id
    LEFT JOIN events e ON e.room_id = %s AND e.event_id = COALESCE(d.first_event_id, w.event_id)
    UNION ALL
    SELECT 'extremity', event_id, NULL, NULL, NULL, NULL FROM forward_extremities WHERE room_id = %s
    UNION ALL
    SELECT 'halted', room_id, NULL, NULL, NULL, NULL FROM halted_rooms WHERE room_id = %s
"""


class PostgresRoomTables:
    """The rooms of the serving generation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, needs: Needs) -> Loaded:
        """The answers to the needs of one room's view."""

        def read(snapshot: Snapshot) -> Loaded:
            # A builder asks for its own room only.
            return next(iter(load(snapshot, needs).values()), Loaded())

        return await self._database.read(read)

    async def outcomes(self, room_id: str, event_ids: list[str]) -> Outcomes:
        """What was decided about these events, and the head of the room, as of one moment."""
        params = (event_ids, room_id, room_id, room_id, room_id)
        rows = await self._database.read(lambda snapshot: snapshot.rows(_OUTCOMES_SQL, params))
        events: dict[str, Outcome] = {}
        extremities, halted = set(), False
        for kind, name, first, verdict, rule, reason in rows:
            if kind == "event" and verdict is not None:
                events[restore(name)] = Outcome(verdict, rule, reason, restore(first) if first else None)
            elif kind == "extremity":
                extremities.add(restore(name))
            elif kind == "halted":
                halted = True
        return Outcomes(events, frozenset(extremities), halted)
